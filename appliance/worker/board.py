"""What the processes of one daemon tell each other about the processor: a page of memory, and locks on its file.

**The page.** Each engine has a slot of one cache line, written by it alone and read by others without a lock: an aligned
64-bit word is written and read whole. A latency engine says when its last call came, a throughput engine when its last
step began. A language model makes shorter steps while latency-class work is about; the latency path leaves its
real-time class when it needs too much of the processor while there is throughput work (osutil/realtime.py).

**Turns.** Threads of a throughput engine wait for each other at every operation, so two of them on the same cores at a
time make each other several times slower. So each takes the token for its cores before a step and gives it back after
it: as many threads run as one of them has. The token is a record lock (fcntl(2)) on a range of bytes, one for each core:
engines on other cores don't wait for it, and a process that dies lets go of it.
"""

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence

from appliance import limits
from appliance.clock import Clock, SystemClock

_SLOT_BYTES = 64
_WORDS = _SLOT_BYTES // 8
_BYTES = limits.board_slots_max * _SLOT_BYTES
_LAST_CALL, _LAST_STEP = 0, 1
# Where in the file the two rows of locks are, far behind the page: locks may lie beyond the end of a file.
_QUEUE, _TURN = 1 << 30, 1 << 31


def make_board() -> int:
    """The descriptor of a new board, closed on exec; its size can't change any more. Raises OSError."""
    fd = os.memfd_create("board", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, _BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


class Board:
    """The page behind ``fd``, which must stay open: closing any descriptor of it would drop the process's locks."""

    def __init__(self, fd: int, clock: Clock | None = None) -> None:
        self.fd = fd
        self._now = (clock or SystemClock()).monotonic_ns
        self._words = memoryview(mmap.mmap(fd, _BYTES)).cast("Q")

    def latency_wanted(self) -> bool:
        """Whether a latency engine has taken a call within ``limits.latency_recent_ms``."""
        return self._since(_LAST_CALL) < limits.latency_recent_ms * 1_000_000

    def throughput_wanted(self) -> bool:
        """Whether a throughput engine has begun a step within ``limits.throughput_recent_ms``."""
        return self._since(_LAST_STEP) < limits.throughput_recent_ms * 1_000_000

    def _since(self, word: int) -> int:
        last = max(self._words[word::_WORDS])
        return self._now() - last if last else 1 << 63

    def notice(self, slot: int) -> "Notice":
        """The slot of one engine, empty at first."""
        return Notice(self._words[slot * _WORDS : (slot + 1) * _WORDS], self._now)


class Notice:
    """What an engine says of itself."""

    def __init__(self, words: memoryview, now: Callable[[], int]) -> None:
        self._words = words
        self._now = now
        words[_LAST_CALL] = words[_LAST_STEP] = 0

    def called(self) -> None:
        """A latency engine has got a call."""
        self._words[_LAST_CALL] = self._now()

    def steps(self) -> None:
        """A throughput engine begins a step."""
        self._words[_LAST_STEP] = self._now()


class Turns:
    """The token for ``cores`` on the board ``fd``; ``notice`` is told of each step."""

    def __init__(self, fd: int, cores: Sequence[int], notice: Notice | None = None) -> None:
        self._fd = fd
        self._notice = notice
        self._first = min(cores)
        self._count = max(cores) - self._first + 1

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """A step's turn; False when it couldn't be had in ``limits.turn_wait_ms_max``, and the step goes on without it.

        First a place in the queue, then the token, then the place is given up: whoever has just had the token finds the
        next one in the queue, and waits behind it.
        """
        until = time.monotonic() + limits.turn_wait_ms_max / 1000
        had = False
        try:
            if self._take(_QUEUE, until):
                had = self._take(_TURN, until)
                self._drop(_QUEUE)
            if self._notice:
                self._notice.steps()
            yield had
        finally:
            self._drop(_TURN)

    def _take(self, row: int, until: float) -> bool:
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, self._count, row + self._first)
            except (BlockingIOError, PermissionError):  # the two that fcntl(2) allows for a lock that others hold
                if time.monotonic() >= until:
                    return False
                time.sleep(limits.turn_look_us / 1e6)
            else:
                return True

    def _drop(self, row: int) -> None:
        fcntl.lockf(self._fd, fcntl.LOCK_UN, self._count, row + self._first)
