"""The lane of ModelStreamInfer: opens streams, and does for all of them what needs routes, engines and threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from appliance.errors import ApplianceError, ResourceExhausted
from appliance.serve import failed, status
from appliance.serve.caller import Caller
from appliance.serve.express.context import ExpressContext, RpcPeer
from appliance.serve.express.entry import Entry, Stream
from appliance.serve.express.means import Means
from appliance.serve.express.plain import plain
from appliance.serve.express.pool import submit
from appliance.serve.express.stream import ExpressStream
from appliance.worker.router import Backend


class StreamLane:
    """Of one server."""

    method = b"/inference.GRPCInferenceService/ModelStreamInfer"

    def __init__(self, means: Means) -> None:
        self._means = means
        self._gate = means.gate
        # A stream has at most one request on a thread, and the gate bounds the streams.
        self._pool = ThreadPoolExecutor(means.threads, thread_name_prefix="stream")

    def begin(self, rpc: Any, deadline: float, over: Callable[[object], None]) -> object:
        """A stream has come."""
        try:
            self._gate.enter()
        except ApplianceError as error:
            return self._refused(rpc, deadline, over, error)
        try:
            self._gate.enter_stream()
        except ResourceExhausted as error:
            self._gate.leave()
            return self._refused(rpc, deadline, over, error)
        return ExpressStream(rpc, deadline, over, self, self._left)

    def _refused(
        self, rpc: Any, deadline: float, over: Callable[[object], None], error: ApplianceError
    ) -> ExpressStream:
        failed.note(error, RpcPeer(rpc), failed.NOTHING)
        stream = ExpressStream(rpc, deadline, over, self, lambda: None)
        stream.end(status.STATUS[error.code], status.shorten(error.message), error.reason)
        return stream

    def _left(self) -> None:
        self._gate.leave_stream()
        self._gate.leave()

    def run(self, work: Callable[[], None]) -> None:
        """On a thread."""
        submit(self._pool, work)

    # --- for streams -------------------------------------------------------------------------------------------------

    def send(self, entry: Entry, data: bytes) -> bool:
        """Sends a plain request to its engine; False when it is none. Raises ApplianceError."""
        request = plain(data)
        if request is None:
            return False
        entry.request = request
        prepared = self._means.calls.prepare(request, entry.seconds_left(), entry.ahead)
        if prepared is None:
            return False
        entry.backend, message, buffers = prepared
        self._means.answers.send(entry, message, buffers)
        return True

    def release(self, backend: Backend) -> None:
        """An errand's place on its engine is free."""
        self._means.calls.release(backend)

    def answer(self, stream: Stream, data: bytes, put: Callable[[bytes], None]) -> None:
        """Puts all answers to any request; raises ApplianceError where the stream must end."""
        request = self._means.parse(data)
        context: grpc.ServicerContext = ExpressContext(stream)  # type: ignore[assignment]  # as much of it as is used
        for response in self._means.inference.answers(request, Caller(context)):
            put(response if type(response) is bytes else response.SerializeToString())  # type: ignore[union-attr]
