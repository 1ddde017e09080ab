"""A request on its way to an engine and back: what the answering thread needs to know of it."""

from collections.abc import Callable
from typing import Protocol

from appliance.answers import InferDone
from appliance.errors import ApplianceError
from appliance.serve import convert
from appliance.serve.express.call import ExpressCall
from appliance.worker.router import Backend


class Errand(Protocol):
    """Ended by the first ``answer``, ``fail`` or ``fail_internal``; later ones do nothing."""

    backend: Backend
    started: float
    # How often it has been sent.
    tries: int

    @property
    def cancelled(self) -> bool:
        """The client is gone."""
        ...

    def release(self) -> None:
        """Its place on the engine is free; before the end is told, so that the next call finds it."""
        ...

    def answer(self, done: InferDone, body: memoryview) -> None:
        """The engine's answer. Raises ValueError when heads and body don't go together."""
        ...

    def fail(self, error: ApplianceError) -> None:
        """It ends with an error."""
        ...

    def fail_internal(self) -> None:
        """It ends with the exception that is being handled."""
        ...

    def watch(self) -> None:
        """It takes its time: ``cancelled`` must be true soon after the client has left."""
        ...


class UnaryErrand:
    """An errand that is a whole call."""

    __slots__ = (
        "_call",
        "_free",
        "_request_id",
        "backend",
        "fail",
        "fail_internal",
        "started",
        "tries",
    )

    def __init__(self, call: ExpressCall, backend: Backend, request_id: str, free: Callable[[Backend], None]) -> None:
        """``free`` is called with the backend that it then has."""
        self._call = call
        self._request_id = request_id
        self._free = free
        self.backend = backend
        self.started = call.started
        self.tries = 0
        self.fail = call.fail
        self.fail_internal = call.fail_internal

    @property
    def cancelled(self) -> bool:
        return self._call.cancelled

    def release(self) -> None:
        self._free(self.backend)

    def answer(self, done: InferDone, body: memoryview) -> None:
        route = self.backend.route
        self._call.answer(convert.infer_response(route.name, route.version, self._request_id, done, body))

    def watch(self) -> None:
        self._call.watch()
