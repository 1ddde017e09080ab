"""The front-end process: ``python -m appliance.serve.front_end CONTROL_FD``.

Three kinds of threads: the pool that answers calls, one that obeys the supervisor, and the main one, which sends a
sign of life only after a no-op has come through the pool. End of file on the control channel ends the process at once.
"""

import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

from appliance import core_plan, events, limits, logs
from appliance.config import Config
from appliance.control import (
    Applied,
    Beat,
    Control,
    Drain,
    FrontEndReady,
    FrontEndRefused,
    RegionsApplied,
    RegionTable,
    Reload,
    Reloaded,
    RouteTable,
    StartFrontEnd,
)
from appliance.osutil.child import adopt_control
from appliance.osutil.memory import keep_freed_memory
from appliance.osutil.realtime import Guard
from appliance.osutil.scheduling import slices_known
from appliance.serve.gate import Gate
from appliance.serve.health import Readiness
from appliance.serve.refused import ListenError
from appliance.serve.server import Servers, service_names
from appliance.worker.board import Board
from appliance.worker.channel import ControlChannel
from appliance.worker.connection import give_back_idle_arenas
from appliance.worker.router import Router

_log = logging.getLogger(__name__)
_FLUSH_SECONDS = 1.0


class FrontEnd:
    """Obeys the supervisor. Its methods run on the control thread, except ``listen`` and ``live``."""

    def __init__(self, channel: ControlChannel, start: StartFrontEnd, contended: Callable[[], bool]) -> None:
        """``contended()``: whether throughput engines compute on its core."""
        threads = start.config.server.threads
        self._channel = channel
        self._config = start.config
        self._number = start.number
        # A model may hold half of the threads: one that hangs leaves the others their way in.
        self._router = Router(max(1, threads // 2), self._applied)
        self._readiness = Readiness(service_names())
        self._gate = Gate(threads)
        self._servers = Servers(start.config, self._router, self._readiness, self._gate, channel, contended)
        self._starting = threading.Lock()
        self._started = False

    def listen(self) -> str:
        """Binds what this front-end serves and returns the TCP address. Raises ListenError."""
        address = self._servers.listen_tcp()
        if self._number == 0:
            self._servers.listen_unix(self._config.unix_socket)
        return address

    def _start(self) -> None:
        with self._starting:
            if not self._started:
                self._started = True
                self._servers.start()

    def handle(self, message: Control) -> None:
        """One message of the supervisor."""
        if isinstance(message, RouteTable):
            self._router.apply(message)
            self._servers.comparing.apply(message)
            self._readiness.apply(message)
            # Only now: before the first table every model would be an unknown one.
            self._start()
        elif isinstance(message, RegionTable):
            self._servers.shared.apply(message)
            with contextlib.suppress(OSError):  # the supervisor is gone, as below
                self._channel.send(RegionsApplied(message.epoch))
        elif isinstance(message, Reload):
            self._reload(message.config)
        elif isinstance(message, Drain):
            # On a thread of its own, so that answers to open questions still get through.
            threading.Thread(target=self._drain, args=(message.seconds,), name="drain", daemon=True).start()
        else:
            _log.error("a front-end does not understand %s", type(message).__name__, extra=events.INTERNAL_FAULT.of())

    def _reload(self, config: Config) -> None:
        trouble = self._servers.reload(config.server.tls)
        if not trouble:
            logs.configure(config.log, f"front-end {self._number}", logs.Prepared())
        with contextlib.suppress(OSError):  # as below
            self._channel.send(Reloaded(trouble))

    def _applied(self, epoch: int, busy: tuple[str, ...]) -> None:
        with contextlib.suppress(OSError):  # the supervisor is gone: the control thread ends the process
            self._channel.send(Applied(epoch, busy))

    def _drain(self, seconds: float) -> None:
        self._readiness.drain()
        self._gate.close()
        empty = self._gate.wait_empty(seconds)
        if not empty:
            _log.warning(
                "%d calls still ran after %g s and are cancelled",
                self._gate.calls,
                seconds,
                extra=events.CALL_CANCELLED.of(),
            )
            self._servers.stop()
        # A call is out of the gate a moment before gRPC has written its answer. No stop() after that: gRPC would cancel
        # calls that are just coming in, while a connection that ends means UNAVAILABLE, and clients try that again.
        self._servers.flush(_FLUSH_SECONDS)
        leave(0)

    def live(self) -> None:
        """Beats for ever. A beat says that the pool which answers calls still turns."""
        interval = limits.beat_interval_ms / 1000
        answer_by = time.monotonic() + limits.first_table_ms_max / 1000
        while True:
            began = time.monotonic()
            self._servers.pool.submit(int).result()
            give_back_idle_arenas(time.monotonic_ns())
            refused, lost = self._router.take_counts()
            compared = self._servers.comparing.trials.take_tallies()
            try:
                self._channel.send(Beat(None, refused, lost, compared))
            except OSError:
                leave(0)
            time.sleep(max(0.0, interval - (time.monotonic() - began)))
            # Should the supervisor have no table to send, calls still get an answer.
            if time.monotonic() > answer_by:
                self._start()


def leave(code: int) -> None:
    """Ends the process without waiting for threads that may hang in a call."""
    logging.shutdown()
    os._exit(code)


def settle_on_core(core: int) -> None:
    """Keeps all threads on one core (-1: anywhere), and keeps them from preempting each other.

    A woken thread of a normal policy preempts the one that woke it, only to find the interpreter's lock taken and to
    switch back. Under SCHED_BATCH (sched(7)) the waker goes on until it blocks: a third more calls a second, see
    README.md. Called before any thread is there, so that all of them inherit it.
    """
    if core >= 0:
        os.sched_setaffinity(0, {core})
    with contextlib.suppress(OSError):  # a container may forbid it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def nothing_computes() -> bool:
    """For a machine without a board."""
    return False


def main() -> None:
    """The process from its first message to its end."""
    channel = ControlChannel(adopt_control(int(sys.argv[1]), "front-end"))
    start = channel.receive_first()
    assert isinstance(start, StartFrontEnd)  # the supervisor's first message to a front-end
    logs.configure(start.config.log, f"front-end {start.number}", logs.Prepared())
    computing = Board(start.board_fd).throughput_wanted if start.board_fd >= 0 else nothing_computes
    shared_core = start.core < 0 or start.core in core_plan.throughput_cores(tuple(os.sched_getaffinity(0)))
    settle_on_core(start.core)
    keep_freed_memory()
    front_end = FrontEnd(channel, start, computing if shared_core else nothing_computes)
    try:
        address = front_end.listen()
    except ListenError as error:
        channel.send(FrontEndRefused(str(error)))
        leave(1)
    # From now on its work is short, and goes before others' where that is allowed.
    Guard("front_end", computing, realtime=start.realtime, slices=slices_known()).start()
    # What is there now stays: the collector need not look at it again and again.
    gc.freeze()
    channel.send(FrontEndReady(address))

    def obey() -> None:
        try:
            channel.run(front_end.handle)
        except Exception:  # the supervisor starts another front-end
            _log.exception("the control thread failed", extra=events.INTERNAL_FAULT.of())
            leave(1)
        leave(0)

    threading.Thread(target=obey, name="control", daemon=True).start()
    front_end.live()


if __name__ == "__main__":
    main()
