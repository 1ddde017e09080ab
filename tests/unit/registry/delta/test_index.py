"""The index file: what was written comes back; whatever else it says is refused before anything is done with it."""

import struct
import tracemalloc
from collections.abc import Callable

import pytest
from delta_box import MIB, entry_of, noise
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.registry.delta import index
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Entry

ENTRIES = [entry_of(noise(number, MIB + number * 1000)) for number in range(3)]
FILE = index.encode(ENTRIES)
BLOB = 45  # bytes of a blob in the table
TABLE = 12
CHUNKS = TABLE + 3 * BLOB


def test_what_was_written_comes_back() -> None:
    found = index.parse(FILE)
    assert found.entries == {entry.digest: entry for entry in ENTRIES}
    assert len(FILE) == index.encoded_bytes(3, sum(entry.chunk_count for entry in ENTRIES))
    assert index.encode(ENTRIES[::-1]) == FILE


def test_chunks_follow_each_other() -> None:
    at = 0
    for chunk in ENTRIES[1].chunks():
        assert chunk.offset == at
        at += chunk.length
    assert at == ENTRIES[1].size


def test_it_is_small() -> None:
    assert len(index.encode([entry_of(noise(5, 4 * MIB))])) < 4 * MIB / 1000


@pytest.mark.parametrize("data", [b"", bytes([0])])
def test_empty_and_tiny_blobs(data: bytes) -> None:
    entry = entry_of(data)
    assert index.parse(index.encode([entry])).of(entry.digest, len(data)) == entry


def put(at: int, form: str, value: object) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        struct.pack_into(form, changed, at, value)
        return bytes(changed)

    return change


def lengths(*new: int) -> Callable[[bytes], bytes]:
    """Replaces the first chunks' lengths."""

    def change(data: bytes) -> bytes:
        for number, length in enumerate(new):
            data = put(CHUNKS + number * 36, ">I", length)(data)
        return data

    return change


def _first_lengths() -> list[int]:
    first = min(ENTRIES)
    return [chunk.length for chunk in first.chunks()]


L = _first_lengths()
LIES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut head": lambda data: data[:11],
    "cut table": lambda data: data[: TABLE + 50],
    "cut chunks": lambda data: data[:-1],
    "one chunk less": lambda data: data[:-36],
    "a byte more": lambda data: data + b"x",
    "one chunk more": lambda data: data + data[-36:],
    "too large": lambda data: data + bytes(limits.delta_index_bytes_max),
    "magic": put(0, ">8s", b"appchuck"),
    "version 0": put(8, ">H", 0),
    "version 2": put(8, ">H", 2),
    "no blobs, with chunks": put(10, ">H", 0),
    "more blobs": put(10, ">H", 4),
    "65535 blobs": put(10, ">H", 65535),
    "digest out of order": put(TABLE, ">32s", b"\xff" * 32),
    "digest twice": lambda data: data[: TABLE + BLOB] + data[TABLE : TABLE + 32] + data[TABLE + BLOB + 32 :],
    "size + 1": put(TABLE + 32, ">Q", sum(L) + 1),
    "size 0": put(TABLE + 32, ">Q", 0),
    "size 2^64 - 1": put(TABLE + 32, ">Q", 2**64 - 1),
    "bits 0": put(TABLE + 40, ">B", 0),
    "bits 15": put(TABLE + 40, ">B", 15),
    "bits 21, chunks too short": put(TABLE + 40, ">B", 21),
    "bits 23": put(TABLE + 40, ">B", 23),
    "bits 255": put(TABLE + 40, ">B", 255),
    "chunks + 1": put(TABLE + 41, ">I", len(L) + 1),
    "no chunks": put(TABLE + 41, ">I", 0),
    "2^32 - 1 chunks": put(TABLE + 41, ">I", 2**32 - 1),
    "a chunk of no bytes": lengths(0, L[0] + L[1]),
    "a chunk that is too short": lengths(8 * 1024 - 1, L[0] + L[1] - 8 * 1024 + 1),
    "a chunk that is too long": lengths(256 * 1024 + 1),
    "a chunk of 4 GiB": lengths(2**32 - 1),
    "sum too small": lengths(L[0] - 1),
    "sum too large": lengths(L[0] + 1),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused(name: str) -> None:
    with pytest.raises(DeltaFailed) as caught:
        index.parse(LIES[name](FILE))
    assert caught.value.reason == "BAD_INDEX"


def test_one_chunk_moved_from_a_blob_to_the_next_is_refused() -> None:
    first, second = sorted(ENTRIES)[:2]
    moved = put(TABLE + 41, ">I", first.chunk_count + 1)(FILE)
    moved = put(TABLE + BLOB + 41, ">I", second.chunk_count - 1)(moved)
    with pytest.raises(DeltaFailed, match="no chunk index"):
        index.parse(moved)


@given(st.integers(0, len(FILE) - 1), st.binary(min_size=1, max_size=8))
def test_any_change_is_refused_or_covers_its_blobs(at: int, new: bytes) -> None:
    changed = FILE[:at] + new + FILE[at + len(new) :]
    try:
        found = index.parse(changed)
    except DeltaFailed:
        return
    for entry in found.entries.values():
        assert sum(chunk.length for chunk in entry.chunks()) == entry.size


@given(st.binary(max_size=400))
def test_anything_is_refused(data: bytes) -> None:
    with pytest.raises(DeltaFailed):
        index.parse(FILE[:TABLE] + data)


def test_a_blob_must_be_in_it_with_its_size() -> None:
    found = index.parse(FILE)
    entry = ENTRIES[0]
    assert found.of(entry.digest, entry.size) == entry
    for digest, size, reason in ((entry.digest, entry.size + 1, "BAD_INDEX"), ("sha256:" + "0" * 64, 1, "NO_INDEX")):
        with pytest.raises(DeltaFailed) as caught:
            found.of(digest, size)
        assert caught.value.reason == reason


def test_the_largest_index_is_parsed_in_bounded_memory() -> None:
    count = limits.delta_blob_chunks_max
    record = struct.pack(">I32s", 1 << 18, b"x" * 32)
    entries = [Entry(bytes([n]) * 32, count << 18, 18, record * count) for n in range(3)]
    data = index.encode(entries)
    assert len(data) < limits.delta_index_bytes_max
    tracemalloc.start()
    try:
        index.parse(data)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data)
    finally:
        tracemalloc.stop()


def test_more_chunks_than_a_blob_may_have() -> None:
    count = limits.delta_blob_chunks_max + 1
    record = struct.pack(">I32s", 1 << 18, b"x" * 32)
    with pytest.raises(DeltaFailed):
        index.parse(index.encode([Entry(bytes(32), count << 18, 18, record * count)]))
