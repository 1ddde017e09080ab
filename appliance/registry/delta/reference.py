"""From what a release says of its chunk index to the index itself.

The index is a blob in the repository of the model. Its digest and length are in the release (registry/release.py: chunks),
so they are signed with it.
"""

from appliance import limits
from appliance.registry.delta import index
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Index
from appliance.registry.release import Chunks
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable
from appliance.store.blobs import Tick, no_tick
from appliance.store.manifest import digest_of, is_digest

_READ_BYTES = 256 * 1024


def fetch(source: Source, repository: str, chunks: Chunks, pace: Tick = no_tick) -> Index:
    """The index, verified. Raises DeltaFailed whatever is wrong: a model can always be had without it."""
    return index.parse(read(source, repository, chunks, pace))


def read(source: Source, repository: str, chunks: Chunks, pace: Tick = no_tick) -> bytes:
    """The index's file, as it was signed. ``pace`` is called with bytes that came, and may raise. Raises DeltaFailed NO_INDEX."""
    if not is_digest(chunks.digest) or not 0 < chunks.size <= limits.delta_index_bytes_max:
        raise DeltaFailed("NO_INDEX", f"the signed chunk index has {chunks.size} bytes, or no sha256")
    data = bytearray()
    try:
        with source.blob(repository, chunks.digest) as blob:
            if blob.offset:
                raise DeltaFailed("NO_INDEX", f"{source.name} sends the chunk index from {blob.offset} on")
            while len(data) <= chunks.size and (piece := blob.read(min(_READ_BYTES, chunks.size + 1 - len(data)))):
                data += piece
                pace(len(piece))
    except (Absent, Refused, Unreachable, Malformed) as error:
        raise DeltaFailed("NO_INDEX", f"{source.name} has no chunk index: {error.message}") from error
    if len(data) != chunks.size or digest_of(bytes(data)) != chunks.digest:
        raise DeltaFailed("NO_INDEX", f"the chunk index that {source.name} has is not the signed one")
    return bytes(data)
