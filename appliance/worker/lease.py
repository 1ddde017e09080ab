"""One call from a front-end to an engine: send the request, read the answer or the stream, and clean up after it.

Closing the connection is the only way to cancel, so a connection goes back to its pool only after a final answer.
"""

import threading
from collections.abc import Iterator, Sequence
from types import TracebackType

from appliance import frames, limits
from appliance.answers import AnyAnswer, Failure, InferDone
from appliance.calls import AnyCall, InferCall
from appliance.control import Route
from appliance.errors import Cancelled, from_code
from appliance.types import Buffer
from appliance.worker import placing
from appliance.worker.connection import Connection
from appliance.worker.engine_gone import SEND_TRIES, engine_died, engine_down
from appliance.worker.regions import SharedRegion
from appliance.worker.router import Backend, Router

_decoder: "frames.Decoder[AnyAnswer]" = frames.Decoder(AnyAnswer)


class _Unread(Exception):
    """The other end was closed before it had read all that we sent: only then does unix(7) reset the connection."""


class Lease:
    """A place on an engine, for one call. Use as a context manager; ``cancel`` may come from any thread.

    Raises what Router.acquire raises.
    """

    __slots__ = ("_backend", "_borrowed", "_cancelled", "_connection", "_lock", "_router", "_sticky", "route")

    def __init__(
        self,
        router: Router,
        name: str,
        version: str = "",
        *,
        bounded: bool = True,
        sticky: str = "",
        instance: str = "",
    ) -> None:
        self._router = router
        self._sticky = sticky
        self._backend: Backend = router.acquire(name, version, bounded=bounded, sticky=sticky, instance=instance)
        self.route: Route = self._backend.route
        self._connection: Connection | None = None
        self._cancelled = False
        # The answer's bytes where they lie in the connection's arena: until the lease ends they are not overwritten.
        self._borrowed: memoryview | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._borrowed is not None:
            # Whoever kept it must not see another call's bytes.
            self._borrowed.release()
            self._give_back()
        else:
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

    def exchange(
        self, call: AnyCall, buffers: Sequence[Buffer] = (), regions: Sequence[SharedRegion] = ()
    ) -> tuple[AnyAnswer, memoryview]:
        """The one answer to ``call`` and its tensor bytes, which are good until the lease ends.

        ``regions`` are those that the call names. Raises the engine's own error, Unavailable when the engine dies,
        Cancelled after ``cancel``.
        """
        answer, body = self._begin(call, buffers, regions)
        if self._borrowed is None:
            self._give_back()
        return answer, body

    def stream(self, call: AnyCall, buffers: Sequence[Buffer] = ()) -> Iterator[tuple[AnyAnswer, memoryview]]:
        """The answers to ``call`` as they come, the final one last; raises as ``exchange`` does."""
        answer, body = self._begin(call, buffers)
        while not answer.final:
            yield answer, body
            answer, body = self._receive()
        self._give_back()
        yield answer, body

    def _begin(
        self, call: AnyCall, buffers: Sequence[Buffer], regions: Sequence[SharedRegion] = ()
    ) -> tuple[AnyAnswer, memoryview]:
        """Sends the call and waits for the first answer; sends it again where no engine can have run it."""
        for _ in range(SEND_TRIES):
            self._backend = self._router.moved(self._backend, self._sticky)
            pool = self._backend.pool
            connection = self._attach(pool.take())
            try:
                if isinstance(call, InferCall) and placing.worth_it(buffers, regions, pool.expectation):
                    placing.send(connection, call, buffers, regions, pool.expectation)
                else:
                    frames.send(connection.sock, call, buffers)
            except OSError:
                self._drop()
                continue
            try:
                return self._receive()
            except _Unread:
                continue
        raise engine_down(self.route)

    def _receive(self) -> tuple[AnyAnswer, memoryview]:
        connection = self._connection
        assert connection is not None  # _begin attached it
        try:
            frame = connection.inbox.next()
        except ConnectionResetError:
            self._drop()
            raise _Unread from None
        except (frames.EndOfStream, OSError) as error:
            self._drop()
            self._router.count_lost(self.route)
            raise engine_died(self.route) from error
        assert frame is not None  # the socket blocks
        answer = _decoder.decode(frame[0])
        if isinstance(answer, Failure):
            self._give_back()
            raise from_code(answer.code, answer.reason, answer.message)
        if isinstance(answer, InferDone) and (connection.arena or len(frame[1]) >= limits.arena_threshold_bytes):
            return answer, self._outputs(connection, answer, frame[1])
        return answer, frame[1]

    def _outputs(self, connection: Connection, answer: InferDone, body: memoryview) -> memoryview:
        outputs = placing.answer_body(connection, answer, body)
        if outputs is not body:
            self._borrowed = outputs
        self._backend.pool.expectation.seen(len(outputs))
        return outputs

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
