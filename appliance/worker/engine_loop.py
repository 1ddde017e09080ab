"""The one thread that owns an engine: take what has arrived, run one step, answer, and look at the sockets again.

What arrived while the last step ran is the engine's next batch; no timer is needed. A closed connection is a
cancelled call, seen after at most one step.
"""

import logging
import select
import socket
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from appliance import events, frames, limits
from appliance.answers import StatsDone
from appliance.calls import AnyCall, ShareCall, StatsCall
from appliance.control import Beat, Drain, ToChild
from appliance.engine.base import Engine
from appliance.errors import ApplianceError, InternalError
from appliance.types import EngineStats, Tensor
from appliance.worker.call_tally import CallTally
from appliance.worker.engine_connection import EngineConnection, SocketReply
from appliance.worker.handover import taken_over

_log = logging.getLogger(__name__)
_calls: "frames.Decoder[AnyCall]" = frames.Decoder(AnyCall)
_controls: "frames.Decoder[ToChild]" = frames.Decoder(ToChild)
_BUFFER_BYTES = 4 * 1024 * 1024


class EngineLoop:
    """Runs until it is drained or the supervisor is gone."""

    def __init__(
        self,
        engine: Engine,
        listener: socket.socket,
        control: socket.socket,
        control_inbox: frames.Inbox,
        handover: socket.socket | None = None,
        called: Callable[[], None] = lambda: None,
        turn: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> None:
        """``control_inbox`` is the one that has read ``control`` so far; see handover.py for ``handover``.

        ``called`` is called with each call that comes; each step is done in a ``turn()`` (engine_seat.py).
        """
        self._engine = engine
        self._listener = listener
        self._control = control
        self._control_inbox = control_inbox
        self._connections: dict[int, EngineConnection] = {}
        self._epoll = select.epoll()
        self._drain_until: float | None = None
        self._supervised = True
        self._next_beat = 0.0
        self._refused = 0
        self._tally = CallTally()
        self._called = called
        self._turn = turn
        listener.setblocking(False)
        control.setblocking(True)
        self._epoll.register(listener.fileno(), select.EPOLLIN)
        self._epoll.register(control.fileno(), select.EPOLLIN)
        self._handover = handover
        if handover is not None:
            handover.setblocking(False)
            self._epoll.register(handover.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """An exception from ``engine.step`` comes out of here: the process must end, its state is unknown."""
        engine, poll = self._engine, self._epoll.poll
        self._hear_all(self._control_inbox.take())
        while self._supervised and not self._drained():
            busy = engine.has_work()
            if busy:
                self._wait_for_company(engine.wait_seconds())
            for fd, ready in poll(0 if busy else self._idle_seconds()):
                self._handle(fd, ready)
            if engine.has_work():
                self._step()
            if time.monotonic() >= self._next_beat:
                self._beat()

    def _step(self) -> None:
        if self._turn is None:
            self._engine.step()
        else:
            with self._turn():
                self._engine.step()

    def _idle_seconds(self) -> float:
        return max(0.0, self._next_beat - time.monotonic())

    def _wait_for_company(self, seconds: float) -> None:
        """Until something arrives, at most so long. In select, because epoll's timeout is in whole milliseconds."""
        if seconds > 0:
            select.select((self._epoll,), (), (), min(seconds, self._idle_seconds()))

    def _drained(self) -> bool:
        if self._drain_until is None:
            return False
        if time.monotonic() >= self._drain_until:
            return True
        return not self._engine.has_work() and not any(c.backlog_bytes for c in self._connections.values())

    def _beat(self) -> None:
        self._next_beat = time.monotonic() + limits.beat_interval_ms / 1000
        try:
            frames.send(self._control, Beat(stats=self._stats()))
        except OSError:
            self._supervised = False

    def _handle(self, fd: int, events: int) -> None:
        connection = self._connections.get(fd)
        if connection is not None:
            if events & select.EPOLLOUT:
                connection.flush()
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read(connection)
            if connection.closed:
                self._close(connection)
        elif fd == self._listener.fileno():
            self._accept()
        elif self._handover is not None and fd == self._handover.fileno():
            for sock in taken_over(self._handover):
                self._adopt(sock)
        else:
            self._hear()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            self._adopt(sock)

    def _adopt(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        connection = EngineConnection(sock, self._want_write, self._tally)
        self._connections[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        # The front-end connects because it has a request: most often it is here already.
        self._read(connection)
        if connection.closed:
            self._close(connection)

    def _want_write(self, connection: EngineConnection, wanted: bool) -> None:
        if not connection.closed:
            events = select.EPOLLIN | select.EPOLLOUT if wanted else select.EPOLLIN
            self._epoll.modify(connection.sock.fileno(), events)

    def _read(self, connection: EngineConnection) -> None:
        """Takes one call, and all memory that is handed over before it."""
        try:
            while not connection.closed:
                frame = connection.inbox.next()
                if frame is None or not self._take(connection, *frame):
                    return
        except (frames.EndOfStream, OSError):
            connection.closed = True
        except (frames.FrameError, ValueError):
            _log.exception("a front-end sent a bad frame", extra=events.INTERNAL_FAULT.of())
            connection.closed = True

    def _take(self, connection: EngineConnection, header: memoryview, body: memoryview) -> bool:
        """Whether more may follow at once, because this frame has no answer."""
        if connection.reply is not None:
            raise frames.FrameError("a second call on a busy connection")
        call = _calls.decode(header)
        if type(call) is ShareCall:
            connection.share(call)
            return True
        reply = connection.begin(call)
        if type(call) is StatsCall:
            reply.finish(StatsDone(self._stats()))
            return False
        try:
            tensors = connection.tensors(call, body)
        except ApplianceError as error:
            self._refused += 1
            reply.fail(error)
        else:
            self._submit(call, tensors, reply)
        return False

    def _submit(self, call: AnyCall, tensors: list[Tensor], reply: SocketReply) -> None:
        self._called()
        try:
            self._engine.submit(call, tensors, reply)
        except ApplianceError as error:
            self._refused += 1
            reply.fail(error)
        except Exception:
            self._refused += 1
            _log.exception("the engine failed to take a call", extra=events.INTERNAL_FAULT.of())
            reply.fail(InternalError("the engine failed on this request; the daemon's log says why"))

    def _stats(self) -> EngineStats:
        stats = self._engine.stats()
        stats.refused_count += self._refused
        stats.fault_count, stats.latency = self._tally.faults, dict(self._tally.latency)
        return stats

    def _close(self, connection: EngineConnection) -> None:
        if connection.reply is not None:
            connection.reply.abandon()
        self._epoll.unregister(connection.sock.fileno())
        del self._connections[connection.sock.fileno()]
        connection.close()

    def _hear(self) -> None:
        try:
            frame = self._control_inbox.next()
        except (frames.EndOfStream, OSError):
            self._supervised = False
            return
        self._hear_all(frame)

    def _hear_all(self, frame: tuple[memoryview, memoryview] | None) -> None:
        while frame is not None:
            message = _controls.decode(frame[0])
            if isinstance(message, Drain) and self._drain_until is None:
                self._drain_until = time.monotonic() + message.seconds
                self._epoll.unregister(self._listener.fileno())
            frame = self._control_inbox.take()
