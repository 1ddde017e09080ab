"""One request of a stream: an errand while it is plain, else worked off by a thread when its turn has come."""

import time
from collections.abc import Callable
from typing import Protocol

import grpc

from appliance.answers import InferDone
from appliance.errors import ApplianceError, Cancelled, ResourceExhausted
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.serve import convert, failed, status
from appliance.serve.express.context import Open, RpcPeer
from appliance.serve.express.once import Once
from appliance.serve.infer import stream_error
from appliance.worker.router import Backend


class Stream(Open, Protocol):
    """What an entry needs of its stream."""

    def wait_for_room(self) -> None:
        """Blocks while the client reads too slowly; raises Cancelled when it is gone."""
        ...

    def moved(self) -> None:
        """An entry has more to say, or nothing more."""
        ...

    def end(self, code: grpc.StatusCode, details: str, reason: str) -> None:
        """The whole stream fails."""
        ...


class Work(Protocol):
    """What an entry needs of its lane."""

    def run(self, work: Callable[[], None]) -> None:
        """On a thread."""
        ...

    def send(self, entry: "Entry", data: bytes) -> bool:
        """Sends a plain request to its engine; False when it is none. Raises ApplianceError."""
        ...

    def answer(self, stream: Stream, data: bytes, put: Callable[[bytes], None]) -> None:
        """Puts all answers to any request; raises ApplianceError where the stream must end."""
        ...

    def release(self, backend: Backend) -> None:
        """An errand's place on its engine is free."""
        ...


class Entry:
    """One request of a stream and its answers so far; an Errand while it is ``plain``."""

    __slots__ = (
        "_data",
        "_once",
        "_running",
        "_stream",
        "_work",
        "ahead",
        "answers",
        "backend",
        "done",
        "plain",
        "request",
        "started",
        "tries",
    )

    def __init__(self, stream: Stream, work: Work, data: bytes, ahead: bool) -> None:
        """``ahead``: others are before it."""
        self._stream = stream
        self._work = work
        self._data = data
        self._once = Once()
        self._running = False
        self.answers: list[bytes] = []
        self.done = False
        self.plain = True
        self.ahead = ahead
        self.started = time.monotonic()
        self.tries = 0
        self.backend: Backend
        self.request = pb.ModelInferRequest()

    def seconds_left(self) -> float:
        """Until the client's deadline."""
        return self._stream.seconds_left()

    def begin(self) -> None:
        """Sends it, or leaves it to be run in its turn."""
        try:
            self.plain = self._work.send(self, self._data)
        except ResourceExhausted:
            # Reading ahead must not cost a request its answer: in its turn it finds the room that those before it left.
            self.plain = False
        except ApplianceError as error:
            self.fail(error)
        except Exception:  # the stream has other requests; this one's client gets what a unary caller gets
            self.fail_internal()

    # --- in its turn, on a thread ------------------------------------------------------------------------------------

    def may_run(self) -> None:
        """All before it are answered. Called under the stream's lock."""
        if not self.plain and not self._running:
            self._running = True
            self._work.run(self._run)

    def _run(self) -> None:
        try:
            self._work.answer(self._stream, self._data, self._put)
        except Cancelled:
            pass
        except ApplianceError as error:
            failed.note(error, RpcPeer(self._stream.rpc), failed.NOTHING)
            self._stream.end(status.STATUS[error.code], status.shorten(error.message), error.reason)
        except Exception:  # as for every call: INTERNAL, and the log has the traceback
            self._stream.end(grpc.StatusCode.INTERNAL, status.internal_message(RpcPeer(self._stream.rpc)), "INTERNAL")
        self._finish()

    def _put(self, answer: bytes) -> None:
        self._stream.wait_for_room()
        self.answers.append(answer)
        self._stream.moved()

    def _finish(self) -> None:
        self.done = True
        self._stream.moved()

    # --- as an errand ------------------------------------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        return self._stream.cancelled

    def release(self) -> None:
        self._work.release(self.backend)

    def answer(self, done: InferDone, body: memoryview) -> None:
        route = self.backend.route
        response = convert.infer_response(route.name, route.version, self.request.id, done, body, final=True)
        if self._once.take():
            self._last(convert.stream_response(response))

    def fail(self, error: ApplianceError) -> None:
        if self._once.take():
            failed.note(error, RpcPeer(self._stream.rpc), failed.asked_of(self.request))
            self._last(stream_error(self.request, status.shorten(error.message)).SerializeToString())

    def fail_internal(self) -> None:
        if self._once.take():
            message = status.internal_message(RpcPeer(self._stream.rpc), failed.asked_of(self.request))
            self._last(stream_error(self.request, message).SerializeToString())

    def _last(self, answer: bytes) -> None:
        self.answers.append(answer)
        self._finish()

    def watch(self) -> None:
        """The stream is watched from its beginning."""
