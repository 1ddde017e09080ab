"""A connection's memory for large tensors: a memfd that front-end and engine both map, used for one call after another.

The front-end copies a call's inputs into it, the engine computes straight on them and leaves its outputs behind them:
neither crosses the socket. Nobody can shrink it (F_SEAL_SHRINK, fcntl(2)), so that no access can end in SIGBUS.
"""

import fcntl
import mmap
import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

from appliance import limits
from appliance.types import Buffer

# Kernels read whole vectors, and no two tensors should share a line of the cache.
ALIGNMENT = 64
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Layout(NamedTuple):
    """Where each tensor begins in an arena, and where the last one ends."""

    offsets: tuple[int, ...]
    end: int


def lay_out(sizes: Sequence[int]) -> Layout:
    """One behind the other, each aligned."""
    offsets, at = [], 0
    for size in sizes:
        at = align(at)
        offsets.append(at)
        at += size
    return Layout(tuple(offsets), at)


def align(offset: int) -> int:
    """The next place at which a tensor may begin."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def arena_bytes(needed: int) -> int:
    """The size to make an arena for ``needed`` bytes: at most a quarter more, so that few calls need a larger one."""
    step = max(limits.arena_step_bytes, 1 << max(0, needed.bit_length() - 3))
    return -(-needed // step) * step


class ArenaBudget:
    """What all arenas of a process may have together; thread-safe."""

    def __init__(self, bytes_max: int = limits.arenas_bytes_max) -> None:
        self._lock = threading.Lock()
        self._left = bytes_max

    def take(self, nbytes: int) -> bool:
        """Whether there was so much left, which then is taken."""
        with self._lock:
            if nbytes > self._left:
                return False
            self._left -= nbytes
            return True

    def give(self, nbytes: int) -> None:
        """Gives back what was taken."""
        with self._lock:
            self._left += nbytes


class Arena:
    """The front-end's end of one; ``fd`` is there until it has been handed over. Raises OSError when memory is short."""

    __slots__ = ("_budget", "_fd", "_view", "nbytes")

    def __init__(self, nbytes: int, budget: ArenaBudget) -> None:
        """``budget`` has given ``nbytes`` for it."""
        self.nbytes = nbytes
        self._budget = budget
        self._view: memoryview | None = None
        self._fd = os.memfd_create("tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            # Memory that is short must be an error now, not a signal at the first touch.
            os.posix_fallocate(self._fd, 0, nbytes)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
            self._view = memoryview(mmap.mmap(self._fd, nbytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE))
        except OSError:
            os.close(self._fd)
            raise

    @classmethod
    def make(cls, needed: int, budget: ArenaBudget) -> "Arena | None":
        """One for ``needed`` bytes; None where that is too much, or memory is short: the socket serves as well."""
        nbytes = arena_bytes(needed)
        if nbytes > limits.arena_bytes_max or not budget.take(nbytes):
            return None
        try:
            return cls(nbytes, budget)
        except OSError:
            budget.give(nbytes)
            return None

    @property
    def fd(self) -> int:
        """-1 once it has been handed over."""
        return self._fd

    def handed_over(self) -> None:
        """The engine has it: the descriptor is of no further use here."""
        fd, self._fd = self._fd, -1
        os.close(fd)

    def put(self, buffers: Sequence[Buffer], layout: Layout) -> None:
        """Copies tensors to their places. Through the mapping: pwrite takes twice the time (README.md)."""
        view = self._view
        assert view is not None  # nobody uses a closed arena
        for buffer, offset in zip(buffers, layout.offsets, strict=True):
            view[offset : offset + len(buffer)] = buffer

    def read(self, start: int, end: int) -> memoryview:
        """The bytes there, not copied; raises ValueError when they are not all within the arena."""
        view = self._view
        if view is None or not 0 <= start <= end <= self.nbytes:
            raise ValueError(f"bytes {start} to {end} of an arena of {self.nbytes}")
        return view[start:end].toreadonly()

    def close(self) -> None:
        """Views that were given out keep the memory until they go."""
        if self._fd >= 0:
            self.handed_over()
        if self._view is not None:
            self._view = None
            self._budget.give(self.nbytes)
