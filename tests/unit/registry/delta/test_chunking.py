"""Where blobs are cut: bounds, and that a change stays where it is."""

from itertools import accumulate

import pytest
from delta_box import MIB, entry_of, noise

from appliance import limits
from appliance.registry.delta import chunking

DATA = noise(1, 3 * MIB)
CUTS = [33258, 111566, 192539, 204367, 231942, 260679]


def lengths(data: bytes) -> list[int]:
    return [chunk.length for chunk in entry_of(data, 16).chunks()]


def hashes(data: bytes) -> set[bytes]:
    return {chunk.sha256 for chunk in entry_of(data, 16).chunks()}


def test_the_cuts_are_part_of_the_format() -> None:
    """Another version of the library that cuts elsewhere would make every delta of every published index worthless."""
    assert list(accumulate(lengths(DATA)))[:6] == CUTS


def test_chunks_cover_the_blob_within_their_bounds() -> None:
    found = lengths(DATA)
    assert sum(found) == len(DATA)
    assert all(8 * 1024 <= length <= 256 * 1024 for length in found[:-1])
    assert 50_000 < sum(found) / len(found) < 100_000


@pytest.mark.parametrize(
    ("changed", "new_max"),
    [
        (DATA[:MIB] + b"?" + DATA[MIB + 1 :], 2),
        (DATA[:MIB] + b"inserted" + DATA[MIB:], 2),
        (DATA[:MIB] + DATA[MIB + 5 :], 2),
        (b"shifted" + DATA, 2),
        (DATA[100_000:], 3),
        (DATA + b"more", 1),
        (DATA[2 * MIB :] + DATA[: 2 * MIB], 5),
    ],
    ids=["byte", "insert", "delete", "shift", "cut", "append", "swap"],
)
def test_a_change_stays_where_it_is(changed: bytes, new_max: int) -> None:
    assert 0 < len(hashes(changed) - hashes(DATA)) <= new_max


def test_zeros_are_one_chunk_again_and_again() -> None:
    assert len(hashes(bytes(3 * MIB))) == 1


@pytest.mark.parametrize(
    "size", [MIB, 128 * MIB - 1, 128 * MIB, 4 << 30, (16 << 30) - 1, 16 << 30, 100 << 30, 120 << 30]
)
def test_large_blobs_have_larger_chunks(size: int) -> None:
    bits = chunking.average_bits(size)
    assert chunking.BITS_MIN <= bits <= chunking.BITS_MAX
    # Random chunks are longer than the average by an eighth.
    assert (size >> bits) * 8 / 9 < limits.delta_blob_chunks_max
    assert chunking.fits(size, bits)
    # Two average chunks and more, where an edit straddles a cut: under 1 % from 26 MiB on.
    assert size < 26 * MIB or (1 << bits) * 4 < size / 100


@pytest.mark.parametrize("size", [0, 1, MIB - 1, 130 << 30, 256 << 30])
def test_tiny_and_huge_blobs_have_no_chunks(size: int) -> None:
    assert not chunking.fits(size, chunking.average_bits(size))


def test_a_stream_of_short_reads_is_cut_alike() -> None:
    class Trickle:
        at = 0

        def read(self, size: int, /) -> bytes:
            piece = DATA[self.at : self.at + min(size, 10_007)]
            self.at += len(piece)
            return piece

    assert [length for length, _ in chunking.cut(Trickle(), 16)] == lengths(DATA)
