"""The lane of ModelInfer: what is small and plain goes to its engine from the loop itself, the rest to a pool.

Small and plain is what needs no look at any parameter and little time in Python; it is sent without waiting, and
answers.py answers it. Everything else is what serve/infer.py makes of it, on a thread of the lane's own pool.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from appliance import limits
from appliance.errors import ApplianceError, ResourceExhausted
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.serve.express.call import ExpressCall
from appliance.serve.express.context import ExpressContext
from appliance.serve.express.errand import UnaryErrand
from appliance.serve.express.means import Means
from appliance.serve.express.plain import plain
from appliance.serve.express.pool import submit
from appliance.serve.failed import asked_of
from appliance.worker.router import Backend


class Lane:
    """Of one server."""

    method = b"/inference.GRPCInferenceService/ModelInfer"

    def __init__(self, means: Means) -> None:
        self._means = means
        self._gate = means.gate
        self._pool = ThreadPoolExecutor(means.threads, thread_name_prefix="express")
        self._open: set[object] = set()
        self._over: Callable[[object], None] = lambda _call: None

    def begin(self, rpc: Any, deadline: float, over: Callable[[object], None]) -> object:
        """A call has come; its message will."""
        self._over = over
        call = ExpressCall(rpc, deadline, self._ended, self._received)
        self._open.add(call)
        if len(self._open) > limits.express_calls_max:
            call.fail(ResourceExhausted("too many calls are open: try again later", reason="CALLS_FULL"))
        return call

    def _ended(self, call: object) -> None:
        self._open.discard(call)
        self._over(call)

    def _received(self, call: ExpressCall, data: bytes) -> None:
        """Runs in the loop: must not wait, and must not raise."""
        if call.ended:  # it was refused before its message came
            return
        try:
            self._gate.enter()
        except ApplianceError as error:
            call.fail(error)
            return
        try:
            request = plain(data)
            if request is None or not self._send(call, request):
                context = ExpressContext(call)
                submit(self._pool, self._in_pool, call, context, data)
        except ApplianceError as error:
            self._gate.leave()
            call.fail(error)
        except Exception:  # as for every other call: INTERNAL, and the log has the traceback
            self._gate.leave()
            call.fail_internal()

    def _send(self, call: ExpressCall, request: pb.ModelInferRequest) -> bool:
        """Sends it to its engine; False when it isn't as plain as it looked. Raises ApplianceError."""
        call.asked = asked_of(request)
        prepared = self._means.calls.prepare(request, call.seconds_left())
        if prepared is None:
            return False
        backend, message, buffers = prepared
        self._means.answers.send(UnaryErrand(call, backend, request.id, self._free), message, buffers)
        return True

    def _free(self, backend: Backend) -> None:
        self._means.calls.release(backend)
        self._gate.leave()

    def _in_pool(self, call: ExpressCall, context: Any, data: bytes) -> None:
        """``_received`` has entered the gate."""
        try:
            request = self._means.parse(data)
            call.asked = asked_of(request)
            response = self._means.inference.infer(request, context)
        except ApplianceError as error:
            call.fail(error)
        except Exception:  # as above
            call.fail_internal()
        else:
            call.answer(response)
        finally:
            self._gate.leave()
