"""Requests that are small and plain: they need no look at a parameter, and little time in Python."""

import time

from google.protobuf.message import DecodeError

from appliance import limits
from appliance.calls import InferCall
from appliance.errors import ApplianceError
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.serve import convert, deadlines
from appliance.serve.parameters import NO_OPTIONS
from appliance.serve.plans import Plans
from appliance.serve.trials import Trials
from appliance.types import Buffer
from appliance.worker.router import Backend, Router


def plain(data: bytes) -> pb.ModelInferRequest | None:
    """The request, when it is small and has no parameters anywhere; None for what serve/infer.py is to look at."""
    if len(data) >= convert.SPLIT_BYTES_MIN:
        return None
    try:
        request = pb.ModelInferRequest.FromString(data)
    except DecodeError:
        return None
    if request.parameters:
        return None
    for tensor in request.inputs:
        if tensor.parameters:
            return None
    for output in request.outputs:
        if output.parameters:
            return None
    return request


class PlainCalls:
    """Makes calls of plain requests."""

    def __init__(self, router: Router, trials: Trials) -> None:
        self._router = router
        self._trials = trials
        self._plans = Plans()

    def prepare(
        self, request: pb.ModelInferRequest, seconds_left: float, ahead: bool = False
    ) -> tuple[Backend, InferCall, list[Buffer]] | None:
        """A place on the engine, and what to send there; None for a model that answers otherwise, and for a call of a comparison.

        ``ahead``: None as well where more than half of the model's places are taken, so that what is read ahead of its
        turn never costs another call its place.

        The place is taken: ``release`` must follow. Raises what Router.acquire and convert.infer_call raise.
        """
        backend = self._router.acquire(request.model_name, request.model_version)
        route = backend.route
        try:
            crowded = ahead and backend.in_flight * 2 > (route.queue_max or limits.engine_queue_default_max)
            elsewhere = route.signature is None or route.signature.decoupled or crowded
            if elsewhere or (self._trials.current is not None and not self._trials.pass_by(request)):
                self.release(backend)
                return None
            deadline = deadlines.deadline_ns(seconds_left, 0, time.monotonic_ns())
            return backend, *convert.infer_call(request, self._plans.of(route), NO_OPTIONS, deadline)
        except Exception as error:
            if isinstance(error, ApplianceError):
                self._router.count_refused(route)
            self.release(backend)
            raise

    def release(self, backend: Backend) -> None:
        """The place is free."""
        self._router.release(backend)
