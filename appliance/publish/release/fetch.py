"""The registry's metadata into the publisher's folder: after somebody else has published, or into a signer's new folder."""

from collections.abc import Mapping
from typing import NamedTuple

from appliance import limits
from appliance.errors import FailedPrecondition, NotFound
from appliance.publish.release import repository, upload
from appliance.publish.release.repository import TIMESTAMP, file_name
from appliance.registry.sources.base import Source


class Taken(NamedTuple):
    """``files``: all metadata that are now current. ``newer``: whether they aren't those that were here."""

    files: dict[str, bytes]
    newer: bool


def take(source: Source, tuf_repository: str, ours: Mapping[str, bytes]) -> Taken:
    """What the registry has, verified from the roots in ``ours`` on; expired metadata are taken, too.

    Raises NotFound NO_METADATA, FailedPrecondition METADATA_BROKEN, NO_ROOT, or REGISTRY_OLDER when it has nothing that
    this folder doesn't have.
    """
    files = {name: data for name, data in ours.items() if (repository.split_name(name) or (0, ""))[1] == "root"}
    versions = repository.root_versions(files)
    if not versions:
        raise FailedPrecondition(
            "there is no root here that the registry's metadata could be verified with: give one with --root",
            reason="NO_ROOT",
        )
    timestamp = upload.fetch(source, tuf_repository, TIMESTAMP)
    if timestamp is None:
        raise NotFound(f"{source.name} has no metadata in {tuf_repository}", reason="NO_METADATA")
    if ours.get(TIMESTAMP) == timestamp:
        return Taken(dict(ours), newer=False)
    _check_newer(ours, timestamp)
    for version in range(versions[-1] + 1, versions[-1] + 1 + limits.tuf_root_rotations_max):
        root = upload.fetch(source, tuf_repository, file_name("root", version))
        if root is None:
            break
        files[file_name("root", version)] = root
    parsed = repository.parse(timestamp, "the registry's timestamp").signed
    if parsed.type != "timestamp":
        raise repository.broken("the registry's timestamp is another file")
    files[TIMESTAMP] = timestamp
    files[file_name("timestamp", parsed.version)] = timestamp
    wanted = [file_name("snapshot", parsed.snapshot_meta.version)]
    _fetch(source, tuf_repository, wanted, files)
    _fetch(source, tuf_repository, repository.closure(files, timestamp), files)
    repository.read(files)
    return Taken(files, newer=True)


def _check_newer(ours: Mapping[str, bytes], timestamp: bytes) -> None:
    if TIMESTAMP not in ours:
        return
    version = repository.parse(timestamp, "the registry's timestamp").signed.version
    if version < repository.parse(ours[TIMESTAMP], TIMESTAMP).signed.version and ours.get(
        file_name("timestamp", version)
    ) in (timestamp, None):
        raise FailedPrecondition(
            f"the registry's timestamp {version} is older than this folder's: `appliance publish push` brings it up to "
            "date",
            reason="REGISTRY_OLDER",
        )


def _fetch(source: Source, tuf_repository: str, names: list[str], files: dict[str, bytes]) -> None:
    for name in names:
        if repository.split_name(name) is None:
            raise repository.broken(f"the registry's snapshot names {name[:100]!r}")
        if name not in files:
            data = upload.fetch(source, tuf_repository, name)
            if data is None:
                raise repository.broken(f"the registry lacks {name}")
            files[name] = data
