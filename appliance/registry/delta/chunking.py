"""Where a blob is cut into chunks: FastCDC (2020) by its content, so that what is moved or edited changes few of them.

Publisher and box must cut alike: these parameters are part of the format of the index (index.py, VERSION).
"""

from collections.abc import Iterator
from typing import Literal, Protocol

from appliance import limits
from appliance.store import manifest

_MIB = 1024 * 1024
# The average chunk as a power of two, for blobs of less than so many bytes. A metadata edit moves one chunk, at times two,
# which must stay below 1 % of the blob. Beyond 16 GiB chunks grow, so that an index has 60,000 of a blob at most;
# one of more than 128 GiB is always fetched whole.
_AVERAGE_BITS = ((128 * _MIB, 16), (16 << 30, 18), (32 << 30, 19), (64 << 30, 20))
_BITS_OF_THE_LARGEST = 21
BITS_MIN = _AVERAGE_BITS[0][1]
BITS_MAX = _BITS_OF_THE_LARGEST
# How much rarer cut points are before the average than behind it. The more of it, the more alike in size are chunks, and the
# longer do two files take to fall into step again behind a change (README.md has the measurement).
_NORMALISED: Literal[1] = 1


class Readable(Protocol):
    """What can be cut: ``read`` may give less than asked, and b"" at the end only."""

    def read(self, size: int, /) -> bytes: ...


def average_bits(size: int) -> int:
    """How a publisher cuts a blob of ``size`` bytes; boxes cut their seeds as the index of the wanted blob says."""
    return next((bits for below, bits in _AVERAGE_BITS if size < below), _BITS_OF_THE_LARGEST)


def chunk_bytes_min(bits: int) -> int:
    """Of every chunk but a blob's last."""
    return (1 << bits) // 8


def chunk_bytes_max(bits: int) -> int:
    """Of every chunk."""
    return (1 << bits) * 4


def fits(size: int, bits: int) -> bool:
    """Whether a blob cut like that has chunks for an index: not too few to be worth it, not too many."""
    return limits.delta_blob_bytes_min <= size and size >> bits <= limits.delta_blob_chunks_max


def cut(stream: Readable, bits: int) -> Iterator[tuple[int, bytes]]:
    """Length and sha256 of one chunk after the other, in the memory of eight average chunks."""
    from pyfastcdc import FastCDC

    chunker = FastCDC(
        1 << bits,
        min_size=chunk_bytes_min(bits),
        max_size=chunk_bytes_max(bits),
        normalized_chunking=_NORMALISED,
    )
    for chunk in chunker.cut_stream(stream):
        digest = manifest.new_sha256()
        digest.update(chunk.data)
        yield chunk.length, digest.digest()
