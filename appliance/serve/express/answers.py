"""The thread that answers small calls: it owns their connections to engines, and sleeps until one of them has an answer.

Connections here are not those of worker/connection.py's pools: nobody waits on one, so all of them are watched at once
by epoll, idle ones too, which tells of an engine's end without a look before each use.
"""

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Sequence

from appliance import events, frames
from appliance.answers import AnyAnswer, Failure, InferDone
from appliance.calls import InferCall
from appliance.errors import ApplianceError, from_code
from appliance.serve.express.errand import Errand
from appliance.types import Buffer
from appliance.worker.engine_gone import SEND_TRIES, engine_died, engine_down
from appliance.worker.router import Router

_log = logging.getLogger(__name__)
_decoder: "frames.Decoder[AnyAnswer]" = frames.Decoder(AnyAnswer)
_SEND_SECONDS_MAX = 1.0
# A call that is not answered by then is watched for its client's leaving.
_WATCH_AFTER_SECONDS = 0.02
_IDLE_SECONDS = 0.25


class _Connection:
    """``errand`` is what the next frame answers, ``sent`` its frame; None while it is idle."""

    __slots__ = ("errand", "home", "inbox", "sent", "sock")

    def __init__(self, path: str, home: "list[_Connection]") -> None:
        """Raises OSError when nobody listens, or too many calls wait to be taken."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        try:
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise
        self.inbox = frames.Inbox(self.sock)
        self.home = home
        self.errand: Errand | None = None
        self.sent: list[Buffer] = []


class Answers:
    """``send`` from any thread; ``run`` is a thread of its own."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        # Idle ones by the engine's socket; list.append and list.pop are atomic.
        self._idle: dict[str, list[_Connection]] = {}
        # In the order in which they were sent.
        self._flying: dict[_Connection, None] = {}

    def start(self) -> None:
        """Answers from now on."""
        threading.Thread(target=self._run, name="answers", daemon=True).start()

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(self, errand: Errand, message: InferCall, buffers: Sequence[Buffer]) -> None:
        """Sends a call to its engine. From here on the errand ends here, whatever happens."""
        self._send(errand, frames.encode(message, buffers))

    def _send(self, errand: Errand, pieces: list[Buffer]) -> None:
        while errand.tries < SEND_TRIES:
            errand.tries += 1
            try:
                errand.backend = self._router.moved(errand.backend)
                connection = self._take(errand.backend.pool.path)
            except ApplianceError as error:
                self._fail(errand, error)
                return
            except OSError:
                break
            connection.errand, connection.sent = errand, pieces
            self._flying[connection] = None
            try:
                _push(connection.sock, pieces)
            except OSError:
                # It was not sent whole, so no engine can have run it. Unless the answering thread has seen the end first.
                if not self._forget(connection, errand):
                    return
                continue
            return
        self._fail(errand, engine_down(errand.backend.route))

    def _take(self, path: str) -> _Connection:
        home = self._idle.get(path)
        if home is None:
            home = self._idle.setdefault(path, [])
        try:
            return home.pop()
        except IndexError:
            pass
        connection = _Connection(path, home)
        self._connections[connection.sock.fileno()] = connection
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)
        return connection

    def _forget(self, connection: _Connection, errand: Errand) -> bool:
        """Takes the errand from a connection that is broken; False when the answering thread has ended it."""
        if self._flying.pop(connection, errand) is not None:
            return False
        connection.errand = None
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)  # the answering thread sees it and closes
        return True

    # --- answering ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        poll, connections = self._epoll.poll, self._connections
        look_again = 0.0
        while True:
            for fd, _ in poll(_WATCH_AFTER_SECONDS if self._flying else _IDLE_SECONDS):
                connection = connections.get(fd)
                if connection is not None:
                    try:
                        self._read(connection)
                    except Exception:
                        _log.exception("an answer could not be passed on", extra=events.INTERNAL_FAULT.of())
            now = time.monotonic()
            if self._flying and now >= look_again:
                look_again = now + _WATCH_AFTER_SECONDS
                try:
                    self._watch_slow(now - _WATCH_AFTER_SECONDS)
                except Exception:  # this thread answers everybody
                    _log.exception("slow calls could not be looked at", extra=events.INTERNAL_FAULT.of())

    def _read(self, connection: _Connection) -> None:
        try:
            frame = connection.inbox.next()
        except ConnectionResetError:  # the engine died before it had read the whole call: it cannot have run it
            self._lost(connection, unread=True)
            return
        except (frames.EndOfStream, frames.FrameError, OSError):
            self._lost(connection)
            return
        if frame is None:
            return
        # Whoever takes it out of here ends the errand.
        if self._flying.pop(connection, connection) is not None:
            self._lost(connection)  # bytes that belong to no call
            return
        errand, connection.errand = connection.errand, None
        assert errand is not None  # ``send`` sets it first
        connection.home.append(connection)
        self._answered(errand, frame[0], frame[1])

    def _answered(self, errand: Errand, header: memoryview, body: memoryview) -> None:
        errand.release()
        try:
            answer = _decoder.decode(header)
            if type(answer) is InferDone:
                errand.answer(answer, body)
                return
            assert isinstance(answer, Failure)  # the other answer that an InferCall may have
            errand.fail(from_code(answer.code, answer.reason, answer.message))
        except Exception:  # as for every call: INTERNAL, and the log has the traceback
            errand.fail_internal()

    def _lost(self, connection: _Connection, unread: bool = False) -> None:
        """The engine died, or the call was cancelled. ``unread``: the call may be sent again."""
        fd = connection.sock.fileno()
        self._epoll.unregister(fd)
        self._connections.pop(fd, None)
        with contextlib.suppress(ValueError):
            connection.home.remove(connection)
        owned = self._flying.pop(connection, connection) is None
        connection.sock.close()
        errand, connection.errand = connection.errand, None
        if errand is None or not owned:
            return
        if unread and not errand.cancelled:
            self._send(errand, connection.sent)
            return
        route = errand.backend.route
        if not errand.cancelled:
            self._router.count_lost(route)
        self._fail(errand, engine_died(route))

    def _fail(self, errand: Errand, error: ApplianceError) -> None:
        errand.release()
        errand.fail(error)

    def _watch_slow(self, before: float) -> None:
        """Lets go of what a client has left; closing the connection is what tells the engine."""
        for connection in list(self._flying):
            errand = connection.errand
            if errand is None:
                continue
            if errand.started > before:
                return
            if errand.cancelled:
                self._lost(connection)
            else:
                errand.watch()


def _push(sock: socket.socket, pieces: list[Buffer]) -> None:
    """A small frame fits into an idle socket's buffer; should it not, it must soon. Raises OSError."""
    while pieces:
        try:
            pieces = frames.send_some(sock, pieces)
        except BlockingIOError:
            _, writable, _ = select.select([], [sock], [], _SEND_SECONDS_MAX)
            if not writable:
                raise TimeoutError("the engine reads nothing") from None
