"""Which chunk comes from where, in which requests, and when the whole blob is the better choice."""

import hashlib
import tracemalloc
from collections.abc import Iterator

import pytest

from appliance import limits
from appliance.registry.delta import index, planner
from appliance.registry.delta.index import Entry
from appliance.registry.delta.planner import ITSELF, SOURCE, Place, Plan, Range

K = 1024
# Chunks longer than what a request costs, so that ranges stay apart.
LONG = limits.delta_request_bytes + 1
SHORT = 64 * K


def blob(chunks: str, length: int = LONG) -> Entry:
    """One chunk a letter; the same letter is the same chunk."""
    pairs = [(length, hashlib.sha256(letter.encode()).digest()) for letter in chunks]
    return index.entry(hashlib.sha256(chunks.encode()).digest(), length * len(chunks), 18, pairs)


def seeds(*blobs: Entry) -> Iterator[tuple[int, Entry]]:
    return iter(enumerate(blobs))


def drawn(plan: Plan) -> str:
    """Of each chunk: the number of a seed, ``=`` from the blob itself, ``.`` fetched."""
    text = ""
    for place in plan.places():
        text += {SOURCE: ".", ITSELF: "="}.get(place.seed, str(place.seed))
    return text


CASES = [
    # wanted, seeds, drawn, ranges in chunks
    ("abc", [], "...", [(0, 3)]),
    ("abc", ["abc"], "000", []),
    ("abc", ["cba"], "000", []),
    ("abXc", ["abc"], "00.0", [(2, 1)]),
    ("XabcY", ["abc"], ".000.", [(0, 1), (4, 1)]),
    ("XYabc", ["abc"], "..000", [(0, 2)]),
    ("abcd", ["ab", "cd"], "0011", []),
    ("abcd", ["xx", "bc", "abc"], "211.", [(3, 1)]),
    ("aaaa", [], ".===", [(0, 1)]),
    ("aXaXa", ["a"], "0.===", [(1, 1)]),
    ("", ["abc"], "", []),
    ("a", ["a"], "0", []),
]


@pytest.mark.parametrize(("wanted", "olds", "drawing", "ranges"), CASES)
def test_a_plan(wanted: str, olds: list[str], drawing: str, ranges: list[tuple[int, int]]) -> None:
    found = planner.plan(blob(wanted), seeds(*(blob(old) for old in olds)))
    assert drawn(found) == drawing
    assert found.ranges == tuple(Range(LONG * start, LONG * count) for start, count in ranges)
    assert found.fetched == LONG * sum(count for _, count in ranges)
    assert found.left == LONG * len(wanted)


def test_places_say_where_in_a_seed() -> None:
    found = planner.plan(blob("ab"), seeds(blob("xxb"), blob("ya")))
    assert tuple(found.places()) == (Place(1, LONG), Place(0, 2 * LONG))
    assert found.used == {0, 1}


@pytest.mark.parametrize(
    ("wanted", "old", "drawing"),
    [
        ("XaY", "a", "..."),  # 64 KiB between two: less than a request costs
        ("XabY", "ab", "...."),  # 128 KiB: as much
        ("XabcY", "abc", ".000."),
        ("aXbY", "ab", "0..."),
        ("XaYbcd", "abcd", "...000"),
        ("XXaXX", "a", ".=0=="),  # what repeats is fetched once
    ],
)
def test_small_gaps_are_fetched_too(wanted: str, old: str, drawing: str) -> None:
    assert drawn(planner.plan(blob(wanted, SHORT), seeds(blob(old, SHORT)))) == drawing


def test_ranges_and_places_say_the_same() -> None:
    wanted = blob("XaYbcZdefgWhi" * 3 + "Q", SHORT)
    found = planner.plan(wanted, seeds(blob("abcdefghi", SHORT)))
    fetched = {
        chunk.offset for chunk, place in zip(wanted.chunks(), found.places(), strict=True) if place.seed == SOURCE
    }
    covered = {offset for one in found.ranges for offset in range(one.offset, one.end, SHORT)}
    assert fetched == covered
    assert all(one.end < other.offset for one, other in zip(found.ranges, found.ranges[1:], strict=False))


@pytest.mark.parametrize(("there", "drawing", "fetched"), [(0, ".0.0=", 2), (1, "0.0=", 1), (3, "0=", 0), (5, "", 0)])
def test_what_is_there_is_not_planned_again(there: int, drawing: str, fetched: int) -> None:
    found = planner.plan(blob("XaYbX"), seeds(blob("ab")), there)
    assert drawn(found) == drawing
    assert found.fetched == fetched * LONG
    assert found.left == (5 - there) * LONG
    assert not found.objection


def test_seeds_are_read_only_while_something_is_missing() -> None:
    asked = []

    def lazily() -> Iterator[tuple[int, Entry]]:
        for number, old in enumerate(["a", "bc", "never"]):
            asked.append(old)
            yield number, blob(old)

    planner.plan(blob("abc"), lazily())
    assert asked == ["a", "bc"]
    asked.clear()
    planner.plan(blob("abc"), lazily(), there=3)
    assert asked == []


@pytest.mark.parametrize(
    ("same", "other", "pays"),
    [(100, 0, True), (99, 1, True), (30, 70, True), (13, 87, True), (10, 90, False), (5, 95, False), (0, 100, False)],
)
def test_it_must_save_a_tenth(same: int, other: int, pays: bool) -> None:
    old = [chr(1000 + number) for number in range(same)]
    new = [chr(5000 + number) for number in range(other)]
    found = planner.plan(blob("".join(old + new)), seeds(blob("".join(old) or "x")))
    assert (found.objection == "") == pays
    assert pays or "bytes would be fetched" in found.objection


def test_scattered_changes_cost_requests() -> None:
    """Every second chunk differs: half is saved, and the requests eat it up again."""
    wanted = "".join(f"{chr(1000 + n)}{chr(5000 + n)}" for n in range(100))
    found = planner.plan(blob(wanted), seeds(blob("".join(chr(1000 + n) for n in range(100)))))
    assert len(found.ranges) == 100
    assert found.objection


def test_too_many_ranges() -> None:
    long = 512 * K
    count = limits.delta_ranges_max + 1
    wanted = "".join(f"{chr(1000 + n)}{chr(5000 + n)}" for n in range(count))
    old = "".join(chr(1000 + n) for n in range(count))
    assert "ranges would" in planner.plan(blob(wanted, long), seeds(blob(old, long))).objection
    assert not planner.plan(blob(wanted[2:], long), seeds(blob(old, long))).objection


def test_the_largest_plan_takes_bounded_memory() -> None:
    count = limits.delta_blob_chunks_max
    pairs = [(1 << 21, hashlib.sha256(str(number).encode()).digest()) for number in range(count)]
    wanted = index.entry(bytes(32), count << 21, 21, pairs)
    del pairs
    tracemalloc.start()
    try:
        found = planner.plan(wanted, seeds(wanted))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.ranges == ()
    assert peak < 16_000_000
