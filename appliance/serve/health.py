"""grpc.health.v1 over the routing table: "" is the daemon, and each model and each gRPC service has its own name.

A watcher holds no thread: the server hands Watch a function to send by (grpcio's experimental_non_blocking, which its
own health servicer relies on).
"""

# ruff: noqa: N802  # names are gRPC's

import threading
from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from appliance import limits
from appliance.control import RouteTable
from appliance.serve import model_info

_Send = Callable[[Any], None]
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Readiness:
    """Whether the daemon and each of its models are ready; tells watchers when that changes. Thread-safe."""

    def __init__(self, services: tuple[str, ...] = ()) -> None:
        """``services``: full names of the gRPC services, which are ready when the daemon is."""
        self._lock = threading.Lock()
        self._services = services
        self._ready = False
        self._draining = False
        self._status: dict[str, int] = {}
        self._watchers: dict[_Send, tuple[str, int]] = {}
        self._set({})

    @property
    def ready(self) -> bool:
        """The required models are ready and the daemon isn't stopping."""
        return self._ready and not self._draining

    def apply(self, table: RouteTable) -> None:
        """Takes over what the supervisor says."""
        models = {route.name: _NOT_SERVING for route in table.routes}
        for route in table.routes:
            if route.active and model_info.is_ready(route):
                models[route.name] = _SERVING
        with self._lock:
            self._ready = table.ready
            self._set(models)

    def drain(self) -> None:
        """Nothing is serving any more, for good."""
        with self._lock:
            self._draining = True
            self._set(dict.fromkeys(self._status, _NOT_SERVING))

    def _set(self, models: dict[str, int]) -> None:
        whole = _SERVING if self.ready else _NOT_SERVING
        if self._draining:
            models = dict.fromkeys(models, _NOT_SERVING)
        self._status = {**models, **dict.fromkeys(self._services, whole), "": whole}
        for send, (name, told) in list(self._watchers.items()):
            status = self._status.get(name, _UNKNOWN)
            if status != told:
                self._watchers[send] = (name, status)
                send(health_pb2.HealthCheckResponse(status=status))

    def status(self, name: str) -> int | None:
        """The status of a name; None when there is no such model or service."""
        with self._lock:
            return self._status.get(name)

    def watch(self, name: str, send: _Send) -> bool:
        """Sends the status now and at each change until ``unwatch``; False when there are too many watchers."""
        with self._lock:
            if len(self._watchers) >= limits.health_watchers_max:
                return False
            status = self._status.get(name, _UNKNOWN)
            self._watchers[send] = (name, status)
            send(health_pb2.HealthCheckResponse(status=status))
            return True

    def unwatch(self, send: _Send) -> None:
        """Forgets a watcher that has gone."""
        with self._lock:
            self._watchers.pop(send, None)


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # grpc_health carries no types
    """The protocol's side. Not behind the gate: a busy or draining daemon still says how it is."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        status = self._readiness.status(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service or model '{request.service[:120]}'")
        return health_pb2.HealthCheckResponse(status=status)

    def Watch(self, request: Any, context: grpc.ServicerContext, send_response_callback: _Send) -> None:
        if not self._readiness.watch(request.service, send_response_callback):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "there are too many health watchers")

        def gone() -> None:
            self._readiness.unwatch(send_response_callback)
            send_response_callback(None)

        if not context.add_callback(gone):
            gone()

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]  # how grpcio is told
