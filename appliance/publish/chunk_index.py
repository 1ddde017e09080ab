"""The chunk index of a packed model, made from its layout. What boxes do with it, and how releases name it: registry/delta."""

from appliance import limits
from appliance.registry.delta import chunking, index
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Entry
from appliance.registry.sources.base import Blob, Source
from appliance.registry.sources.failures import Malformed
from appliance.store import manifest
from appliance.store.blobs import Tick, no_tick
from appliance.store.manifest import Descriptor, Manifest

_READ_BYTES = 1024 * 1024


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
