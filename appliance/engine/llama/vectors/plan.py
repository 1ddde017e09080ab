"""Pure: which texts of the waiting jobs go into the next batch.

The jobs take turns, a text each, so that a call with one text waits for one batch and not for a call with 256. A text
that does not fit any more waits, with the rest of its job, for the next batch.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec


class Pending(Protocol):
    """What the planner must know of a job."""

    @property
    def pending(self) -> Sequence[int]:
        """Tokens of each text that is still to be computed, in order; a batch's worth of them is enough."""
        ...

    @property
    def alone(self) -> bool:
        """Whether the job must not share a batch with others."""
        ...


class Room(msgspec.Struct, frozen=True):
    """What one batch takes: ``sequences`` texts, and ``tokens`` in all unless the first text alone has more."""

    sequences: int
    tokens: int


def plan_batch(jobs: Sequence[Pending], room: Room) -> list[int]:
    """The job of each text of the next batch: where a job stands for the n-th time, its n-th pending text is meant.

    The first job with something to do always gets a text in. When those that got one stand behind those that got none
    the next time, job number n of a queue is served in one of the next n + 1 batches, whatever the texts' lengths.
    """
    left = {number: deque(job.pending) for number, job in enumerate(jobs)}
    turns = deque(number for number in left if left[number])
    picks: list[int] = []
    used = 0
    while turns and len(picks) < room.sequences:
        number = turns.popleft()
        length = left[number][0]
        if picks and used + length > room.tokens:
            continue
        if jobs[number].alone:
            if any(pick != number for pick in picks):
                continue
            turns.clear()
        left[number].popleft()
        picks.append(number)
        used += length
        if left[number]:
            turns.append(number)
    return picks
