"""A blob from its first byte to its last, checked on the way; a line that breaks in the middle is taken up where it broke."""

from collections.abc import Iterator

from appliance import limits
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
    for piece in _patiently(source, repository, blob):
        if held:
            yield held
            gone(len(held))
        digest.update(piece)
        done, held = done + len(piece), piece
        if done > blob.size:
            raise Malformed(f"{source.name} sends more of {blob.digest} than its {blob.size} bytes")
    if digest.hexdigest() != blob.hex:
        raise Malformed(f"what {source.name} sends as {blob.digest} has another digest")
    yield held
    gone(len(held))


def _patiently(source: Source, repository: str, blob: Descriptor) -> Iterator[bytes]:
    """What comes, at most a byte too much. Another try only where something had come: before that, the source has tried."""
    done = idle = 0
    validator = ""
    while True:
        before = done
        try:
            with source.blob(repository, blob.digest, offset=done, validator=validator) as stream:
                validator = stream.validator
                skip = _behind(source, blob, stream.offset, done)
                while piece := stream.read(min(_READ_BYTES, blob.size - done + skip + 1)):
                    new = piece[skip:]
                    skip -= len(piece) - len(new)
                    done += len(new)
                    if new:
                        yield new
            if done < blob.size:
                raise Unreachable(f"{source.name} sent {done} of the {blob.size} bytes of {blob.digest}: try again")
        except Unreachable:
            idle = 0 if done > before else idle + 1
            if done < blob.size and (not done or idle > limits.pull_idle_tries_max):
                raise
        if done >= blob.size:
            return


def _behind(source: Source, blob: Descriptor, offset: int, done: int) -> int:
    """How many bytes come again, of a server that sends the whole whatever it was asked."""
    if offset not in (0, done):
        raise Malformed(f"{source.name} sends {blob.digest} from {offset}, not from {done} on")
    return done - offset
