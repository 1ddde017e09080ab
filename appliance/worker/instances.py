"""Which of a version's instances gets a call. Pure: counts and names come in, a choice comes out.

A front-end knows of its own calls only. So among instances with equally few of them it takes turns, instead of filling
the first one: several front-ends with one call each would all sit on that, and leave the others idle.

A sequence must come to the same instance whichever front-end its calls come through, and front-ends share nothing. So
each computes the same choice out of the same names (rendezvous hashing, Thaler and Ravishankar 1998: the highest score
wins): an instance that goes takes only its own sequences with it, one that comes takes only its share.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol, TypeVar

_MASK = 2**64 - 1
# An odd number without pattern: 2**64 divided by the golden ratio.
_SPREAD = 0x9E3779B97F4A7C15


class Instance(Protocol):
    """What is asked of an instance: calls in flight, and ``number_of`` its name."""

    in_flight: int
    seed: int


AnyInstance = TypeVar("AnyInstance", bound=Instance)


def number_of(name: str) -> int:
    """64 bits that every process computes alike of a name (Python's own hash differs from process to process)."""
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def least_busy(instances: Sequence[AnyInstance], turn: int) -> int:
    """The index of the instance with the fewest calls in flight; of several, the first one from ``turn`` on."""
    count = len(instances)
    best, fewest = 0, -1
    for step in range(count):
        index = (turn + step) % count
        in_flight = instances[index].in_flight
        if not in_flight:
            return index
        if fewest < 0 or in_flight < fewest:
            best, fewest = index, in_flight
    return best


def home_of(instances: Sequence[AnyInstance], key: int) -> AnyInstance:
    """The instance of a sequence; ``key`` is ``number_of`` what names it."""
    best, highest = instances[0], -1
    for instance in instances:
        mixed = key ^ instance.seed
        mixed = ((mixed ^ mixed >> 32) * _SPREAD) & _MASK
        score = ((mixed ^ mixed >> 29) * _SPREAD) & _MASK
        if score > highest:
            best, highest = instance, score
    return best
