"""One call from a front-end to an engine: send the request, read the answer or the stream, and clean up after it.

Closing the connection is the only way to cancel, so a connection goes back to its pool only after a final answer.
"""

import threading
from collections.abc import Iterator, Sequence
from types import TracebackType

from appliance import frames
from appliance.answers import AnyAnswer, Failure
from appliance.calls import AnyCall
from appliance.control import Route
from appliance.errors import Cancelled, Unavailable, from_code
from appliance.types import Buffer
from appliance.worker.connection import Connection
from appliance.worker.router import Backend, Router

_decoder: "frames.Decoder[AnyAnswer]" = frames.Decoder(AnyAnswer)
# An engine may die between the look at an idle connection and the write to it. A request that could not be written
# whole was never run, so it may be written again; three engines dying in a row is not a race any more.
_SEND_TRIES = 3


class Lease:
    """A place on an engine, for one call. Use as a context manager; ``cancel`` may come from any thread.

    Raises what Router.acquire raises.
    """

    __slots__ = ("_backend", "_cancelled", "_connection", "_lock", "_router", "route")

    def __init__(self, router: Router, name: str, version: str = "", *, bounded: bool = True) -> None:
        self._router = router
        self._backend: Backend = router.acquire(name, version, bounded=bounded)
        self.route: Route = self._backend.route
        self._connection: Connection | None = None
        self._cancelled = False
        self._lock = threading.Lock()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        connection = self._detach()
        if connection is not None:
            connection.close()
        self._router.release(self._backend)

    def cancel(self) -> None:
        """The client is gone: wakes the thread that waits for the engine, which then raises Cancelled."""
        with self._lock:
            self._cancelled = True
            if self._connection is not None:
                self._connection.abort()

    def exchange(self, call: AnyCall, buffers: Sequence[Buffer] = ()) -> tuple[AnyAnswer, memoryview]:
        """The one answer to ``call`` and its tensor bytes.

        Raises the engine's own error, Unavailable when the engine dies, Cancelled after ``cancel``.
        """
        self._send(call, buffers)
        answer, body = self._receive()
        self._give_back()
        return answer, body

    def stream(self, call: AnyCall, buffers: Sequence[Buffer] = ()) -> Iterator[tuple[AnyAnswer, memoryview]]:
        """The answers to ``call`` as they come, the final one last; raises as ``exchange`` does."""
        self._send(call, buffers)
        while True:
            answer, body = self._receive()
            if answer.final:
                self._give_back()
                yield answer, body
                return
            yield answer, body

    def _send(self, call: AnyCall, buffers: Sequence[Buffer]) -> None:
        for _ in range(_SEND_TRIES):
            connection = self._attach(self._backend.pool.take())
            try:
                frames.send(connection.sock, call, buffers)
            except OSError:
                self._drop()
                continue
            else:
                return
        raise Unavailable(
            f"the engine of model '{self.route.name}' is not running: try again soon", reason="ENGINE_DOWN"
        )

    def _receive(self) -> tuple[AnyAnswer, memoryview]:
        connection = self._connection
        assert connection is not None  # _send attached it
        try:
            frame = connection.inbox.next()
        except (frames.EndOfStream, OSError) as error:
            self._drop()
            self._router.count_lost(self.route)
            raise Unavailable(
                f"the engine of model '{self.route.name}' died while it worked on this request; "
                "it is being started again: try again soon",
                reason="ENGINE_DIED",
            ) from error
        assert frame is not None  # the socket blocks
        answer = _decoder.decode(frame[0])
        if isinstance(answer, Failure):
            self._give_back()
            raise from_code(answer.code, answer.reason, answer.message)
        return answer, frame[1]

    def _attach(self, connection: Connection) -> Connection:
        with self._lock:
            if not self._cancelled:
                self._connection = connection
                return connection
        self._backend.pool.give(connection)
        raise Cancelled("the caller cancelled this request")

    def _detach(self) -> Connection | None:
        with self._lock:
            connection, self._connection = self._connection, None
            return connection

    def _drop(self) -> None:
        connection = self._detach()
        if connection is not None:
            connection.close()
        if self._cancelled:
            raise Cancelled("the caller cancelled this request")

    def _give_back(self) -> None:
        connection = self._detach()
        if connection is not None and not self._cancelled:
            self._backend.pool.give(connection)
        elif connection is not None:
            connection.close()
