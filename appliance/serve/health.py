"""grpc.health.v1 over the routing table: "" is the daemon, and each model and each gRPC service has its own name.

A watcher holds no thread: the server hands Watch a function to send by (grpcio's experimental_non_blocking, which its
own health servicer relies on). That function waits until the client has room for the message (HTTP/2 flow control), so
it is called by a few threads of its own, never under the lock, and a client that makes no room is let go.
"""

# ruff: noqa: N802  # names are gRPC's

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


class _Watcher:
    """``told`` is the last status that was sent, ``wanted`` the one that it should know; ``busy``: a thread sends."""

    __slots__ = ("busy", "cancel", "name", "send", "told", "wanted")

    def __init__(self, name: str, send: _Send, cancel: Callable[[], object]) -> None:
        self.name = name
        self.send = send
        self.cancel = cancel
        self.told = self.wanted = -1
        self.busy = False


class Readiness:
    """Whether the daemon and each of its models are ready; tells watchers when that changes. Thread-safe."""

    def __init__(self, services: tuple[str, ...] = ()) -> None:
        """``services``: full names of the gRPC services, which are ready when the daemon is."""
        self._lock = threading.Lock()
        self._services = services
        self._ready = False
        self._draining = False
        self._status: dict[str, int] = {}
        self._watchers: dict[_Send, _Watcher] = {}
        self._senders = ThreadPoolExecutor(limits.health_senders, thread_name_prefix="health")
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
        for watcher in self._watchers.values():
            self._tell(watcher)

    def _tell(self, watcher: _Watcher) -> None:
        watcher.wanted = self._status.get(watcher.name, _UNKNOWN)
        if watcher.wanted != watcher.told and not watcher.busy:
            watcher.busy = True
            self._senders.submit(self._deliver, watcher)

    def _deliver(self, watcher: _Watcher) -> None:
        """Sends until the watcher knows the newest status; those in between it need not know."""
        while True:
            with self._lock:
                watcher.busy = watcher.send in self._watchers and watcher.wanted != watcher.told
                if not watcher.busy:
                    return
                status = watcher.told = watcher.wanted
            impatience = threading.Timer(limits.health_send_ms_max / 1000, watcher.cancel)
            impatience.daemon = True
            impatience.start()
            try:
                watcher.send(health_pb2.HealthCheckResponse(status=status))
            finally:
                impatience.cancel()

    def status(self, name: str) -> int | None:
        """The status of a name; None when there is no such model or service."""
        with self._lock:
            return self._status.get(name)

    def watch(self, name: str, send: _Send, cancel: Callable[[], object] = lambda: None) -> bool:
        """Sends the status now and at each change until ``unwatch``; False when there are too many watchers.

        ``send`` may block; ``cancel`` ends the call of a watcher for which it does so too long.
        """
        with self._lock:
            if len(self._watchers) >= limits.health_watchers_max:
                return False
            watcher = self._watchers[send] = _Watcher(name, send, cancel)
            self._tell(watcher)
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
        if not self._readiness.watch(request.service, send_response_callback, context.cancel):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "there are too many health watchers")

        def gone() -> None:
            self._readiness.unwatch(send_response_callback)
            send_response_callback(None)

        if not context.add_callback(gone):
            gone()

    Watch.experimental_non_blocking = True  # type: ignore[attr-defined]  # how grpcio is told
