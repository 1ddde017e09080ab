"""Where each chunk of a wanted blob comes from, and whether that pays. Reads nothing: seeds are given as their chunks."""

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from appliance import limits
from appliance.registry.delta.index import Entry

# Instead of the number of a seed: an earlier part of the wanted blob itself, or the source.
ITSELF = -1
SOURCE = -2


class Place(NamedTuple):
    """The number of a seed (or ITSELF, SOURCE), and where in it a chunk begins."""

    seed: int
    offset: int


class Range(NamedTuple):
    """Bytes to be fetched with one request."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + self.length


class Plan(NamedTuple):
    """``there``: so many chunks are in place already; ``left``: bytes of the others.

    ``seeds`` and ``offsets`` are the places of all chunks: arrays, because 65,000 tuples take 10 MB.
    """

    there: int
    left: int
    seeds: "array[int]"
    offsets: "array[int]"
    ranges: tuple[Range, ...]

    def places(self) -> Iterator[Place]:
        """Of each chunk from number ``there`` on."""
        return map(Place, self.seeds[self.there :], self.offsets[self.there :])

    @property
    def fetched(self) -> int:
        """Bytes to be fetched."""
        return sum(one.length for one in self.ranges)

    @property
    def used(self) -> frozenset[int]:
        """The numbers of the seeds that are read."""
        return frozenset(self.seeds[self.there :]) - {ITSELF, SOURCE}

    @property
    def objection(self) -> str:
        """Why to fetch the whole blob instead; empty when the plan pays."""
        if len(self.ranges) > limits.delta_ranges_max:
            return f"{len(self.ranges)} ranges would have to be fetched, more than {limits.delta_ranges_max}"
        cost = self.fetched + len(self.ranges) * limits.delta_request_bytes
        if self.ranges and cost * 100 > self.left * (100 - limits.delta_saved_percent_min):
            return f"{self.fetched} of {self.left} bytes would be fetched, in {len(self.ranges)} requests"
        return ""


def plan(wanted: Entry, seeds: Iterable[tuple[int, Entry]], there: int = 0) -> Plan:
    """How to make ``wanted``, whose first ``there`` chunks are made. Seeds are asked for only while a chunk is missing."""
    count = wanted.chunk_count
    found = Plan(there, 0, array("b", [SOURCE] * count), array("q", [0] * count), ())
    first: dict[bytes, int] = {}
    left = 0
    for number, chunk in enumerate(wanted.chunks()):
        earlier = first.setdefault(chunk.sha256, number)
        found.offsets[number] = chunk.offset
        if earlier < number:
            found.seeds[number], found.offsets[number] = ITSELF, found.offsets[earlier]
        if number < there:
            found.seeds[number] = ITSELF
        else:
            left += chunk.length
    _find(found, first, seeds)
    return found._replace(left=left, ranges=_coalesce(wanted, found))


def _find(found: Plan, first: dict[bytes, int], seeds: Iterable[tuple[int, Entry]]) -> None:
    """Puts in where seeds have a chunk. One that repeats is read once, and then copied."""
    missing = found.seeds.count(SOURCE)
    if not missing:
        return
    for seed, entry in seeds:
        for chunk in entry.chunks():
            number = first.get(chunk.sha256, -1)
            if number >= 0 and found.seeds[number] == SOURCE:
                found.seeds[number], found.offsets[number] = seed, chunk.offset
                missing -= 1
        if not missing:
            break


def _coalesce(wanted: Entry, found: Plan) -> tuple[Range, ...]:
    """The runs of missing chunks. Two with little between them become one, and the places say so: a request costs more."""
    ranges: list[Range] = []
    behind = 0  # number of the first chunk behind the last range
    for number, chunk in enumerate(wanted.chunks()):
        if found.seeds[number] != SOURCE:
            continue
        if ranges and chunk.offset - ranges[-1].end <= limits.delta_request_bytes:
            for between in range(behind, number):
                found.seeds[between] = SOURCE
            ranges[-1] = Range(ranges[-1].offset, chunk.offset + chunk.length - ranges[-1].offset)
        else:
            ranges.append(Range(chunk.offset, chunk.length))
        behind = number + 1
    return tuple(ranges)
