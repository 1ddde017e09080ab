"""Keeps the latency path from taking the whole processor: who has had more than its share rests while others want it.

A language model computes on all of its cores at once, its threads wait for each other at every operation, and each of
them is behind the latency path. A flood of small calls that keeps one core busy therefore stops the model on all of them.
So every process of the latency path that has used more than its share rests, and all rest at the same time: in the second
half of each period of CLOCK_MONOTONIC, which all processes of a machine share. Then all cores are the model's.

Below its share nobody rests, and while no throughput engine computes nobody does either.
"""

import time
from collections.abc import Callable

import msgspec

# Of one core, over the time that credit is kept for. Some 6,000 small calls a second cost a front-end so much.
_SHARE = 0.45
# A decode step of a small model takes some 50 ms of its cores: it needs two or three rests.
_PERIOD_NS = 40_000_000
_WORK_NS = 20_000_000
# Credit: a burst of so much is nobody's business.
_CREDIT_NS_MAX = 30_000_000
# How often the kernel is asked what the process has used (a system call of 0.4 us).
_LOOK_NS = 1_000_000


class Credit(msgspec.Struct):
    """What a process may still use; nanoseconds. ``now`` is on CLOCK_MONOTONIC, ``used`` is its processor time so far."""

    left: float = _CREDIT_NS_MAX
    _now: int = 0
    _used: int = 0

    def count(self, now: int, used: int) -> None:
        """The time since the last count has given credit, and what was used has taken it."""
        if self._now:
            gained = (now - self._now) * _SHARE - (used - self._used)
            self.left = max(-float(_CREDIT_NS_MAX), min(self.left + gained, _CREDIT_NS_MAX))
        self._now, self._used = now, used

    def forgive(self) -> None:
        """Nobody else wanted the processor."""
        self.left = _CREDIT_NS_MAX

    def rest_ns(self, now: int) -> int:
        """How long to rest from now on, 0: not now. A rest ends with a period, so that all work again at the same time.

        Whose pieces of work are longer than a rest owes more than one: it rests until there is credit again.
        """
        into = now % _PERIOD_NS
        owed = int(-self.left / _SHARE)
        if owed >= _PERIOD_NS:
            return owed + (-(now + owed)) % _PERIOD_NS
        return _PERIOD_NS - into if owed > 0 and into >= _WORK_NS else 0


class Rest:
    """Called by a work loop before each piece of work, it returns when the work may be done. One for each loop."""

    def __init__(self, contended: Callable[[], bool]) -> None:
        """``contended()``: whether throughput engines compute on the same cores."""
        self._contended = contended
        self._credit = Credit()
        self._look = 0

    def __call__(self) -> None:
        now = time.monotonic_ns()
        if now < self._look:
            return
        self._look = now + _LOOK_NS
        self._credit.count(now, time.process_time_ns())
        if self._credit.left >= 0:
            return
        if not self._contended():
            self._credit.forgive()
        elif rest := self._credit.rest_ns(now):
            time.sleep(rest / 1e9)
