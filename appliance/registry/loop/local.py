"""Which local files a release's blobs may share chunks with, the likeliest first. Reads manifests and folders, no blobs."""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from appliance import limits
from appliance.registry.delta.seeds import Seed
from appliance.registry.pull.artefact import Places
from appliance.registry.pull.download import PARTIAL
from appliance.store import manifest
from appliance.store.index import Key, added_ms
from appliance.store.manifest import Descriptor, is_hex


def seeds(line: str, wanted: Collection[str], refs: Mapping[Key, Descriptor], places: Places) -> list[Seed]:
    """Blobs of the line's versions, the last added first; partial files of others than ``wanted`` (digests); all other blobs.

    A wanted blob that is there has rotted, and is a seed all the same: most of it is right. Raises OSError.
    """
    found: dict[str, Seed] = {}
    entries = sorted(refs.items(), key=lambda item: (item[0][0] != line, -added_ms(item[1])))
    for (name, _), entry in entries:
        if name == line:
            _add(found, places, _layers(entry, places))
    for seed in _partial(places.partial, {digest.partition(":")[2] for digest in wanted}):
        found.setdefault(seed.hex, seed)
    for _, entry in entries:
        _add(found, places, _layers(entry, places))
    _add(found, places, places.blobs.names())
    return list(found.values())


def _layers(entry: Descriptor, places: Places) -> Iterator[str]:
    """sha256 of a stored version's files, its weights first; none when its manifest can't be read."""
    data = places.blobs.read(entry)
    try:
        layers = manifest.parse(data or b"").layers
    except manifest.BadManifest:
        return
    yield from (each.hex for each in sorted(layers, key=lambda each: each.media_type != manifest.WEIGHT_TYPE))


def _add(found: dict[str, Seed], places: Places, names: Iterator[str]) -> None:
    for sha256 in names:
        size = places.blobs.size(sha256)
        if size >= limits.delta_blob_bytes_min:
            found.setdefault(sha256, Seed(sha256, places.blobs.path(sha256), size))


def _partial(folder: Path, wanted: Collection[str]) -> Iterator[Seed]:
    """What an update that was given up has left. Those of wanted blobs are being written to."""
    if not folder.is_dir():
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        sha256 = entry.name.removesuffix(PARTIAL)
        if entry.name == sha256 or not is_hex(sha256) or sha256 in wanted:
            continue
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and status.st_size >= limits.delta_blob_bytes_min:
            yield Seed(sha256, folder / entry.name, status.st_size, is_whole=False)
