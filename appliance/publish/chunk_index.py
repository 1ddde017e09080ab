"""The chunk index of a packed model: made from its layout, and put beside it as an artefact of its own.

What boxes do with it, and how signed metadata name it: registry/delta.
"""

from typing import NamedTuple

import msgspec

from appliance import limits
from appliance.registry.delta import chunking, index
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Entry
from appliance.registry.delta.reference import Reference
from appliance.registry.sources.base import Blob, Source, Target
from appliance.registry.sources.failures import Malformed
from appliance.registry.trust import carried, files
from appliance.store import manifest
from appliance.store.blobs import Tick, no_tick
from appliance.store.manifest import Descriptor, Manifest

# Of a tag. Semantic versions begin with a digit, so no version of the model has such a tag.
_TAG_PREFIX = "chunks_"
_READ_BYTES = 1024 * 1024


class ChunkArtefact(NamedTuple):
    """What is pushed: the blobs first, then the manifest under its tag. The index is the last blob."""

    tag: str
    manifest: bytes
    blobs: tuple[bytes, ...]

    @property
    def reference(self) -> Reference:
        """Length and digest for the signed metadata (delta/reference.py: target_path)."""
        return Reference(manifest.digest_of(self.blobs[-1]), len(self.blobs[-1]))


class _Manifest(msgspec.Struct, frozen=True, rename="camel"):
    schema_version: int
    media_type: str
    artifact_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


def make(source: Source, repository: str, model: Manifest, tick: Tick = no_tick) -> bytes:
    """The index of a model's weights; empty when none of them is worth it. ``source`` should be near: all is read.

    Raises Malformed for a layer that is not what its digest says, and what the source raises.
    """
    weights = {layer.digest: layer for layer in model.layers if layer.media_type == manifest.WEIGHT_TYPE}
    entries: list[Entry] = []
    chunks = 0
    for layer in weights.values():
        if not chunking.fits(layer.size, chunking.average_bits(layer.size)):
            continue
        entry = _entry(source, repository, layer, tick)
        if (
            entry is None
            or index.encoded_bytes(len(entries) + 1, chunks + entry.chunk_count) > limits.delta_index_bytes_max
        ):
            continue
        entries.append(entry)
        chunks += entry.chunk_count
    return index.encode(entries) if entries else b""


def artefact(version: str, data: bytes) -> ChunkArtefact:
    """How the index of a version lies in the model's repository (OCI image-spec 1.1, manifest.md, artefacts)."""
    config = Descriptor(carried.EMPTY_TYPE, manifest.digest_of(carried.EMPTY), len(carried.EMPTY))
    layer = Descriptor(index.MEDIA_TYPE, manifest.digest_of(data), len(data))
    made = _Manifest(2, manifest.MANIFEST_TYPE, index.MEDIA_TYPE, config, (layer,))
    return ChunkArtefact(_TAG_PREFIX + version, manifest.canonical(made), (carried.EMPTY, data))


def put(target: Target, repository: str, made: ChunkArtefact) -> None:
    """Sends it; what is there already is not sent again. Raises Refused or Unreachable."""
    for blob in made.blobs:
        files.put_bytes(target, repository, blob)
    target.put_manifest(repository, made.tag, manifest.MANIFEST_TYPE, made.manifest)


def _entry(source: Source, repository: str, layer: Descriptor, tick: Tick) -> Entry | None:
    """None for a blob whose contents are cut into too many chunks."""
    bits = chunking.average_bits(layer.size)
    entry = None
    with source.blob(repository, layer.digest) as blob:
        hashed = _Hashed(blob, tick)
        try:
            entry = index.entry(bytes.fromhex(layer.hex), layer.size, bits, chunking.cut(hashed, bits))
        except DeltaFailed:
            while hashed.read(_READ_BYTES):  # to its end, for the digest
                pass
    if hashed.digest.hexdigest() != layer.hex:
        raise Malformed(f"the blob {layer.digest} in {source.name} has decayed: pack the model again")
    return entry


class _Hashed:
    """What is read is hashed on its way."""

    def __init__(self, blob: Blob, tick: Tick) -> None:
        self.digest = manifest.new_sha256()
        self._blob = blob
        self._tick = tick

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        piece = self._blob.read(size)
        self.digest.update(piece)
        self._tick(len(piece))
        return piece
