"""The chunk index: of each blob, the lengths and sha256 of its chunks in order, in a binary file.

Big endian:
    magic "appchunk", version u16, blobs u16
    for each blob, by rising digest: sha256 32 bytes, size u64, average chunk as a power of two u8, chunks u32
    for each blob, in that order: its chunks: length u32, sha256 32 bytes

Boxes parse it after its own sha256 was found right, and still believe nothing that they can check.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from appliance import limits
from appliance.registry.delta import chunking
from appliance.registry.delta.failures import DeltaFailed

MEDIA_TYPE = "application/vnd.inference-appliance.chunks.v1"
VERSION = 1
_MAGIC = b"appchunk"
_HEAD = struct.Struct(">8sHH")
_BLOB = struct.Struct(">32sQBI")
_CHUNK = struct.Struct(">I32s")
CHUNK_BYTES = _CHUNK.size


class Chunk(NamedTuple):
    """A part of a blob. ``sha256``: its 32 bytes."""

    offset: int
    length: int
    sha256: bytes


class Entry(NamedTuple):
    """One blob. ``records``: its chunks as they are in the file, 36 bytes each, which is all that they cost in memory."""

    sha256: bytes
    size: int
    bits: int
    records: bytes

    @property
    def digest(self) -> str:
        """The blob's digest as OCI writes it."""
        return f"sha256:{self.sha256.hex()}"

    @property
    def chunk_count(self) -> int:
        """How many chunks."""
        return len(self.records) // CHUNK_BYTES

    def chunks(self) -> Iterator[Chunk]:
        """In order; they cover the blob exactly."""
        offset = 0
        for length, sha256 in _CHUNK.iter_unpack(self.records):
            yield Chunk(offset, length, sha256)
            offset += length


class Index(NamedTuple):
    """Entries by the digest of their blobs."""

    entries: dict[str, Entry]

    def of(self, digest: str, size: int) -> Entry:
        """The chunks of a blob that a manifest names. Raises DeltaFailed when there are none, or they are of another size."""
        entry = self.entries.get(digest)
        if entry is None:
            raise DeltaFailed("NO_INDEX", f"the chunk index has no {digest}")
        if entry.size != size:
            raise DeltaFailed("BAD_INDEX", f"the chunk index says {entry.size} bytes of {digest}, which has {size}")
        return entry


def entry(sha256: bytes, size: int, bits: int, chunks: Iterable[tuple[int, bytes]]) -> Entry:
    """An entry of (length, sha256) pairs. Raises DeltaFailed BAD_INDEX for what no box would take."""
    records = bytearray()
    for length, digest in chunks:
        records += _CHUNK.pack(length, digest)
        if len(records) > limits.delta_blob_chunks_max * _CHUNK.size:
            break
    made = Entry(sha256, size, bits, bytes(records))
    _check(made)
    return made


def encode(entries: Sequence[Entry]) -> bytes:
    """The file, always the same for the same blobs."""
    entries = sorted(entries)
    table = (_BLOB.pack(one.sha256, one.size, one.bits, one.chunk_count) for one in entries)
    return b"".join((_HEAD.pack(_MAGIC, VERSION, len(entries)), *table, *(one.records for one in entries)))


def encoded_bytes(blobs: int, chunks: int) -> int:
    """Length of an index of so many blobs with so many chunks together."""
    return _HEAD.size + blobs * _BLOB.size + chunks * _CHUNK.size


def parse(data: bytes) -> Index:
    """Every bound and sum is checked. Raises DeltaFailed BAD_INDEX."""
    if not _HEAD.size <= len(data) <= limits.delta_index_bytes_max:
        raise _bad(f"it has {len(data)} bytes")
    magic, version, blobs = _HEAD.unpack_from(data)
    if magic != _MAGIC or version != VERSION:
        raise _bad(f"it begins with {magic!r}, version {version}")
    if blobs > limits.files_per_model_max or len(data) < encoded_bytes(blobs, 0):
        raise _bad(f"it names {blobs} blobs")
    heads = [_BLOB.unpack_from(data, _HEAD.size + number * _BLOB.size) for number in range(blobs)]
    if any(one[0] >= other[0] for one, other in itertools.pairwise(heads)):
        raise _bad("its blobs are not in order, each once")
    if encoded_bytes(blobs, sum(head[3] for head in heads)) != len(data):
        raise _bad("its length is not that of its chunks")
    entries = {}
    position = encoded_bytes(blobs, 0)
    for sha256, size, bits, count in heads:
        end = position + count * _CHUNK.size
        found = Entry(sha256, size, bits, data[position:end])
        _check(found)
        entries[found.digest] = found
        position = end
    return Index(entries)


def _check(one: Entry) -> None:
    if not chunking.BITS_MIN <= one.bits <= chunking.BITS_MAX:
        raise _bad(f"{one.digest} is cut into chunks of 2^{one.bits} bytes")
    if one.size > limits.model_bytes_max or one.chunk_count > limits.delta_blob_chunks_max:
        raise _bad(f"{one.digest} has {one.size} bytes in {one.chunk_count} chunks")
    least, most = chunking.chunk_bytes_min(one.bits), chunking.chunk_bytes_max(one.bits)
    total, last = 0, least
    for length, _ in _CHUNK.iter_unpack(one.records):
        if last < least or not 0 < length <= most:
            raise _bad(f"{one.digest} has chunks of {last} and {length} bytes before and at {total}")
        total, last = total + length, length
    if total != one.size:
        raise _bad(f"the chunks of {one.digest} have {total} bytes together, not {one.size}")


def _bad(what: str) -> DeltaFailed:
    return DeltaFailed("BAD_INDEX", f"this is no chunk index: {what}")
