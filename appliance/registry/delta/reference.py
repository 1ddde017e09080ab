"""How a release's signed metadata name its chunk index, and the way from there to the index itself.

The index is a TUF target beside the release's manifest. Its bytes are a blob in the repository of the model, under the
sha256 that the target has; a small manifest of its own (publish/chunk_index.py) keeps it from being collected, and goes
with it when somebody copies the repository. Boxes need only the blob.
"""

from typing import NamedTuple

from appliance import limits
from appliance.registry.delta import index
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Index
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Absent, Malformed, Refused, Unreachable
from appliance.store.manifest import digest_of, is_digest

_READ_BYTES = 256 * 1024


class Reference(NamedTuple):
    """Digest and length of the index's file, as they were signed."""

    digest: str
    size: int


def target_path(line: str, version: str) -> str:
    """Where the index of a version is among the TUF targets."""
    return f"models/{line}/{version}/chunks"


def of_target(length: int, sha256: str) -> Reference:
    """What a verified target says. Raises DeltaFailed NO_INDEX."""
    digest = f"sha256:{sha256}"
    if not is_digest(digest) or not 0 < length <= limits.delta_index_bytes_max:
        raise DeltaFailed("NO_INDEX", f"the signed chunk index has {length} bytes, or no sha256")
    return Reference(digest, length)


def fetch(source: Source, repository: str, reference: Reference) -> Index:
    """The index, verified. Raises DeltaFailed whatever is wrong: a model can always be had without it."""
    data = bytearray()
    try:
        with source.blob(repository, reference.digest) as blob:
            if blob.offset:
                raise DeltaFailed("NO_INDEX", f"{source.name} sends the chunk index from {blob.offset} on")
            while len(data) <= reference.size and (
                piece := blob.read(min(_READ_BYTES, reference.size + 1 - len(data)))
            ):
                data += piece
    except (Absent, Refused, Unreachable, Malformed) as error:
        raise DeltaFailed("NO_INDEX", f"{source.name} has no chunk index: {error.message}") from error
    if len(data) != reference.size or digest_of(bytes(data)) != reference.digest:
        raise DeltaFailed("NO_INDEX", f"the chunk index that {source.name} has is not the signed one")
    return index.parse(bytes(data))
