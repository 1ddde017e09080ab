"""A bundle: releases and their metadata in an OCI image layout, for a box without a network. The order keeps it usable.

Artefacts first, then metadata, the timestamp last: whatever moment a stick is pulled out at, what its timestamp names is
there, and the next export goes on where this one stopped.
"""

from collections.abc import Callable, Sequence

import msgspec

from appliance.registry.bundle import carry, metadata
from appliance.registry.release import Release
from appliance.registry.sources.base import Source, Target
from appliance.registry.trust import files as tuf_files
from appliance.registry.trust.carried import repository_of
from appliance.store import manifest

# Called with what is being carried, the bytes that are done and those of all.
Progress = Callable[[str, int, int], None]


class Exported(msgspec.Struct, frozen=True):
    """What a bundle holds after an export. ``bytes``: of the releases' blobs, those that were there already included."""

    releases: tuple[str, ...]
    metadata_files: int
    bytes: int


def export(
    source: Source,
    target: Target,
    prefix: str,
    releases: Sequence[Release],
    manifest_of: Callable[[Release], bytes],
    progress: Progress,
) -> Exported:
    """Carries ``releases``, which are verified, and the current metadata of their lines.

    ``manifest_of``: a release's manifest, verified (trust/releases.py). The metadata are read before the artefacts, so
    that they are not newer than these. Raises what source and target raise; what is there by then stays.
    """
    files = list(metadata.current(source, prefix, {release.line for release in releases}))
    total, done = sum(release.bytes for release in releases), 0
    for release in releases:
        what = f"{release.line}:{release.version}"

        def gone(count: int, what: str = what) -> None:
            nonlocal done
            done += count
            progress(what, done, total)

        data = manifest_of(release)
        if manifest.digest_of(data) != release.digest:
            raise ValueError(f"manifest_of gave another manifest than that of {what}")
        carry.chunks(source, target, release)
        carry.artefact(source, target, release.repository, release.version, data, gone)
    for file in files:
        tuf_files.put(target, repository_of(prefix), file.name, file.data)
    return Exported(tuple(f"{r.line}:{r.version}" for r in releases), len(files), done)
