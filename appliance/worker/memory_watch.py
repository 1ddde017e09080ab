"""Looks at what engines take of the box, and ends one before the box runs short: the supervisor's half of the bound.

The other half is in the engine (osutil/memory_bound.py), where a run that wants too much fails alone. Here end those that
got past it: native code that doesn't ask malloc, a load, a process beside a GPU, many engines together.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from appliance import limits
from appliance.osutil import memory_room
from appliance.osutil.memory_bound import allowed_bytes, reserve_bytes
from appliance.osutil.memory_room import Room

_MIB = 1024 * 1024
# What an engine at its own bound may be over it: stacks and the allocator's reserves count there before they are used.
_SLACK = 1.05
_SLACK_BYTES = 16 * _MIB
# While it loads, an engine has files and weights in memory twice; after the load it compares by itself, and can say more.
_LOAD_SLACK = 2.0
_LOAD_SLACK_BYTES = 256 * _MIB


class Taken(NamedTuple):
    """What one engine has, and how much of it came since its load."""

    private: int
    grown: int


def over(private: int, limit_mib: int, room: Room, *, loading: bool) -> str:
    """Why an engine with ``private`` bytes must end whatever the box has left; "" when it needn't."""
    allowed = allowed_bytes(limit_mib, room.total)
    most = allowed_bytes(0, room.total)
    bound = allowed * _LOAD_SLACK + _LOAD_SLACK_BYTES if loading else allowed * _SLACK + _SLACK_BYTES
    if private <= min(bound, most * _SLACK + _SLACK_BYTES):
        return ""
    if limit_mib > 0 and allowed == limit_mib * _MIB:
        return f"took more than limits.memory_mib = {limit_mib} MiB and was ended"
    return f"took more than the {allowed // _MIB} MiB that an engine may have on this machine and was ended"


def culprit(taken: Iterable[Taken], room: Room) -> int | None:
    """Which engine must end because the box runs short: the one that grew most since its load, if any grew."""
    if room.available >= reserve_bytes(room.total):
        return None
    grown = [t.grown for t in taken]
    most = max(grown, default=0)
    return grown.index(most) if most >= limits.memory_growth_bytes_min else None


class Watched:
    """One engine process. ``verdict``: why it was ended, "" when it wasn't."""

    def __init__(self, pid: int, limit_mib: int, end: Callable[[], None]) -> None:
        self.pid = pid
        self.limit_mib = limit_mib
        self.verdict = ""
        self.private = 0
        self.loading = True
        self._end = end
        self._base = 0

    def loaded(self) -> None:
        """Its model is in memory: what comes from now on is growth."""
        self.loading = False
        self._base = self.private

    @property
    def taken(self) -> Taken:
        """As of the last look."""
        return Taken(self.private, self.private - self._base)

    def end(self, why: str) -> None:
        """Ends the process, once."""
        if not self.verdict:
            self.verdict = why
            self._end()


class MemoryWatch:
    """All engines of one supervisor. Looks only while there are any."""

    def __init__(
        self,
        private_bytes: Callable[[int, bool], int] = memory_room.private_bytes,
        room: Callable[[], Room | None] = memory_room.room,
    ) -> None:
        self._private_bytes = private_bytes
        self._room = room
        self._watched: list[Watched] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, pid: int, limit_mib: int, end: Callable[[], None]) -> Watched:
        """Watches a process until ``remove``; ``end`` ends it. Called in the running loop."""
        watched = Watched(pid, limit_mib, end)
        self._watched.append(watched)
        if self._timer is None:
            self._again()
        return watched

    def remove(self, watched: Watched) -> None:
        """The process has ended."""
        self._watched.remove(watched)
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(limits.memory_watch_ms / 1000, self._tick)

    def _tick(self) -> None:
        self._again()
        self.look()

    def look(self) -> None:
        """Once at all of them."""
        room = self._room()
        if room is None:
            return
        alive = [w for w in self._watched if not w.verdict and self._measure(w, room.swaps)]
        for watched in alive:
            why = over(watched.private, watched.limit_mib, room, loading=watched.loading)
            if why:
                watched.end(why)
        if any(w.verdict for w in self._watched):
            return  # what that one gives back isn't available yet
        index = culprit([w.taken for w in alive], room)
        if index is not None:
            grown, left = alive[index].taken.grown // _MIB, room.available // _MIB
            alive[index].end(f"grew by {grown} MiB while the machine had only {left} MiB left, and was ended")

    def _measure(self, watched: Watched, swaps: bool) -> bool:
        try:
            watched.private = self._private_bytes(watched.pid, swaps)
        except (OSError, ValueError):  # gone already
            return False
        return True


# The supervisor is one process, and the machine's memory is one.
ENGINES = MemoryWatch()
