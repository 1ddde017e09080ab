"""What a handler may ask of a call, for calls that don't come through grpcio's own server."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from appliance.serve.express import grpc_core


class Open(Protocol):
    """A call that goes on: ExpressCall or ExpressStream. ``on_cancel`` is called when its client has left."""

    rpc: Any
    cancelled: bool
    on_cancel: Callable[[], None] | None

    def seconds_left(self) -> float:
        """Until the client's deadline."""
        ...

    def watch(self) -> None:
        """The client's leaving must be noticed."""
        ...


class RpcPeer:
    """Who asks, by gRPC's core."""

    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc

    def peer(self) -> str:
        """The client's address as gRPC writes it."""
        return str(self._rpc.peer(), "utf-8")

    def auth_context(self) -> dict[str, object]:
        """What TLS knows of the client."""
        return grpc_core.auth_context(self._rpc)


class ExpressContext(RpcPeer):
    """As much of grpc.ServicerContext as serve/infer.py and what is below it use."""

    def __init__(self, call: Open) -> None:
        super().__init__(call.rpc)
        self._call = call
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        call.on_cancel = self._end
        call.watch()

    def _end(self) -> None:
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """As ServicerContext.add_callback, for a client that gives up; False: it has done so."""
        with self._lock:
            if self._call.cancelled:
                return False
            self._callbacks.append(callback)
            return True

    def is_active(self) -> bool:
        """Whether the client still waits."""
        return not self._call.cancelled

    def time_remaining(self) -> float:
        """Seconds until the client's deadline."""
        return max(self._call.seconds_left(), 0.0)
