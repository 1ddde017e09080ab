"""A blob from its first byte to its last, checked on the way."""

from collections.abc import Iterator

from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Malformed, Unreachable
from appliance.store.blobs import Tick, no_tick
from appliance.store.manifest import Descriptor, new_sha256

_READ_BYTES = 1024 * 1024


def pieces(source: Source, repository: str, blob: Descriptor, gone: Tick = no_tick) -> Iterator[bytes]:
    """The blob's pieces; the last one is held back until the digest is right, so that nobody takes a wrong one for whole.

    ``gone``: called with the bytes of each piece, once it is taken. Raises Malformed for more bytes or other ones than the
    digest's, Unreachable for fewer.
    """
    digest, done, held = new_sha256(), 0, b""
    with source.blob(repository, blob.digest) as stream:
        while piece := stream.read(min(_READ_BYTES, blob.size - done + 1)):
            if held:
                yield held
                gone(len(held))
            digest.update(piece)
            done, held = done + len(piece), piece
            if done > blob.size:
                raise Malformed(f"{source.name} sends more of {blob.digest} than its {blob.size} bytes")
    if done < blob.size:
        raise Unreachable(f"{source.name} sent {done} of the {blob.size} bytes of {blob.digest}: try again")
    if digest.hexdigest() != blob.hex:
        raise Malformed(f"what {source.name} sends as {blob.digest} has another digest")
    yield held
    gone(len(held))
