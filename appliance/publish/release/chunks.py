"""The chunk index beside a packed version: written with it, found again when it is released, and sent with it."""

import logging

import msgspec

from appliance import events, limits
from appliance.errors import NotFound
from appliance.publish import chunk_index
from appliance.publish.release import push
from appliance.publish.release.push import Found
from appliance.publish.release.upload import Registry
from appliance.registry.delta import artefact, index, reference
from appliance.registry.delta.artefact import ChunkArtefact
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.release import Chunks, Release
from appliance.registry.sources.failures import Absent, Malformed
from appliance.registry.trust import carried
from appliance.store.blobs import Tick, no_tick
from appliance.store.manifest import Manifest

_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(carried.Manifest)


def write(layout: Registry, repository: str, version: str, model: Manifest, tick: Tick = no_tick) -> None:
    """Puts the index of a version whose blobs are in the layout there; nothing for models that are too small for one."""
    data = chunk_index.make(layout.source, repository, model, tick)
    if data:
        artefact.put(layout.target, repository, artefact.artefact(version, data))


def find(layout: Registry, repository: str, version: str, found: Found) -> bytes:
    """The index of a packed version; empty when there is none, or one of other files (of before a --replace)."""
    try:
        fetched = layout.source.manifest(repository, artefact.tag_of(version), bytes_max=limits.manifest_bytes_max)
        if fetched is None:
            return b""
        (layer,) = _decoder.decode(fetched.data).layers
        data = reference.read(layout.source, repository, Chunks(layer.digest, layer.size))
        entries = index.parse(data).entries
    except Absent:
        return b""
    except (DeltaFailed, Malformed, msgspec.MsgspecError, UnicodeDecodeError, ValueError, RecursionError) as error:
        _log.warning(
            "the chunk index of %s %s is not used: %s", repository, version, error, extra=events.INDEX_REFUSED.of()
        )
        return b""
    sizes = {blob.digest: blob.size for blob in found.blobs}
    return data if all(sizes.get(entry.digest) == entry.size for entry in entries.values()) else b""


def of(layout: Registry, repository: str, version: str, found: Found) -> Chunks | None:
    """What a release of a packed version says of its index."""
    made = _made(layout, repository, version, found)
    return made.chunks if made else None


def send(layout: Registry, registry: Registry, repository: str, version: str) -> None:
    """Sends the index of a packed version, if it has one. Raises what push.find raises, Refused or Unreachable."""
    made = _made(layout, repository, version, push.find(layout.source, repository, version))
    if made:
        artefact.put(registry.target, repository, made)


def send_released(layout: Registry, registry: Registry, release: Release) -> None:
    """Sends the index that a release names, unless the registry has it, or it isn't the one here: boxes do without."""
    if release.chunks is None or registry.target.has_blob(release.repository, release.chunks.digest):
        return
    try:
        found = push.find(layout.source, release.repository, release.version)
    except NotFound:
        return
    made = _made(layout, release.repository, release.version, found)
    if made and made.chunks == release.chunks:
        artefact.put(registry.target, release.repository, made)


def _made(layout: Registry, repository: str, version: str, found: Found) -> ChunkArtefact | None:
    data = find(layout, repository, version, found)
    return artefact.artefact(version, data) if data else None
