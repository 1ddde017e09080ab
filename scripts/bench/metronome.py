"""A process that makes calls at fixed moments, one client for one model, and tells when each was due, sent and answered.

It is a process of its own with a thin client, so that neither another thread nor an interpreter's lock delays it. What
delays it still is its own wake-up: on a machine whose processors are busy that is a part of what any client there sees.
"""

import contextlib
import gc
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import numpy as np
import numpy.typing as npt

from bench.schedule import due_times
from bench.target import BenchError, Target
from bench.thin_client import ThinClient

REALTIME_PRIORITY = 10
# Ahead of the first call, for the order to get there.
START_AHEAD_NS = 20_000_000
ANSWER_S_MAX = 60.0


@dataclass(frozen=True)
class Bodies:
    """Requests of a window: the first, those between, the last. A sequence begins and ends with its window."""

    first: bytes
    middle: bytes
    last: bytes

    def of(self, place: int, count: int) -> bytes:
        """Of call ``place`` of so many."""
        return self.first if place == 0 else self.last if place == count - 1 else self.middle


@dataclass(frozen=True)
class Calls:
    """Nanoseconds on time.monotonic_ns of the calls that were answered, and the number of those that failed."""

    due: npt.NDArray[np.int64]
    sent: npt.NDArray[np.int64]
    ended: npt.NDArray[np.int64]
    failed: int = 0

    def joined(self, other: "Calls") -> "Calls":
        """Both windows' calls."""
        return Calls(
            np.concatenate([self.due, other.due]),
            np.concatenate([self.sent, other.sent]),
            np.concatenate([self.ended, other.ended]),
            self.failed + other.failed,
        )


_NOTHING = np.empty(0, np.int64)
NO_CALLS = Calls(_NOTHING, _NOTHING, _NOTHING)


@dataclass(frozen=True)
class Window:
    """What a metronome is told to do: one call each ``1 / rate`` seconds from ``start_ns`` on."""

    start_ns: int
    rate: float
    seconds: float
    bodies: Bodies = field(repr=False)


def play(client: ThinClient, window: Window) -> Calls:
    """Make the window's calls. One that is late because the one before it took long counts from when it was due."""
    due = list(due_times(window.start_ns, window.rate, window.start_ns + round(window.seconds * 1e9)))
    rows, failed = [], 0
    for place, moment in enumerate(due):
        body = window.bodies.of(place, len(due))
        if (left := moment - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)
        answer = client.call(body)
        if answer.ok:
            rows.append((moment, answer.sent_ns, answer.ended_ns))
        else:
            failed += 1
    columns = np.asarray(rows, dtype=np.int64).reshape(-1, 3)
    return Calls(columns[:, 0], columns[:, 1], columns[:, 2], failed)


def _process(pipe: Connection, target: Target, realtime: bool) -> None:
    if realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REALTIME_PRIORITY))
    client = ThinClient(target)
    # A collection in the middle of a window would be counted as the server's time.
    gc.disable()
    pipe.send("ready")
    while (window := pipe.recv()) is not None:
        try:
            pipe.send(play(client, window))
        except BenchError as error:
            pipe.send(str(error))
        gc.collect()
    client.close()


class Metronome:
    """The process, seen from the benchmark: ``start`` a window, then ``result`` waits for its end."""

    def __init__(self, target: Target, *, realtime: bool = False) -> None:
        self._label = f"{target.model}'s client"
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(target=_process, args=(theirs, target, realtime), daemon=True)
        self._process.start()
        theirs.close()
        self._receive(ANSWER_S_MAX)

    def start(self, window: Window) -> None:
        """Begin; returns at once."""
        self._pipe.send(window)

    def result(self, seconds: float) -> Calls:
        """The calls of a window of that length; BenchError when the client failed."""
        found = self._receive(seconds + ANSWER_S_MAX)
        if not isinstance(found, Calls):
            raise BenchError(f"{self._label}: {found}")
        return found

    def _receive(self, seconds: float) -> object:
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
        except EOFError:
            pass
        raise BenchError(f"{self._label} ended or did not answer within {seconds:g} s")

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
        self._pipe.close()


def may_be_realtime() -> bool:
    """Whether this process may run under SCHED_RR (root, CAP_SYS_NICE, or RLIMIT_RTPRIO)."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REALTIME_PRIORITY))
    except OSError:
        return False
    os.sched_setscheduler(0, *before)
    return True
