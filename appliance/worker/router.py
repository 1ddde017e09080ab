"""Which engine a request goes to, in a front-end: the supervisor's routing table and the calls that are on their way.

A new table replaces the old one at once. An engine that is no longer in it gets no new call; when its last call has
come back the front-end says so (``Applied``), and only then does the supervisor stop that engine: this is what makes a
switch of versions drop nothing.
"""

import threading
from collections.abc import Callable

import msgspec

from appliance.control import Route, RouteTable
from appliance.errors import NotFound, ResourceExhausted, Unavailable
from appliance.types import ModelState
from appliance.worker.connection import ConnectionPool

_TAKES_CALLS = (ModelState.READY, ModelState.RESTARTING)


class Backend:
    """One engine as this front-end sees it: its connections and how many calls are on it."""

    __slots__ = ("in_flight", "pool", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.pool = ConnectionPool(route.socket)
        self.in_flight = 0


class _Model(msgspec.Struct):
    """The versions of one model by name, and the one that a request without a version gets."""

    versions: dict[str, Backend]
    active: Backend | None = None


class Router:
    """Thread-safe: handlers lease backends while the control thread applies new tables."""

    def __init__(self, calls_per_model_max: int, applied: Callable[[int], None] = lambda _epoch: None) -> None:
        """``applied(epoch)`` is called, from any thread, when no call is left on an engine outside that table."""
        self._lock = threading.Lock()
        self._models: dict[str, _Model] = {}
        self._retiring: list[Backend] = []
        self._epoch = 0
        self._applied_epoch = 0
        self._applied = applied
        self._calls_per_model_max = calls_per_model_max
        self._refused: dict[str, int] = {}
        self._lost: dict[str, int] = {}

    # --- the table ---------------------------------------------------------------------------------------------------

    def apply(self, table: RouteTable) -> None:
        """Routes by ``table`` from now on."""
        with self._lock:
            old = {b.route.socket: b for m in self._models.values() for b in m.versions.values() if b.route.socket}
            models: dict[str, _Model] = {}
            for route in table.routes:
                backend = old.pop(route.socket, None) if route.socket else None
                if backend is None:
                    backend = Backend(route)
                else:
                    backend.route = route
                model = models.setdefault(route.name, _Model({}))
                model.versions[route.version] = backend
                if route.active:
                    model.active = backend
            self._models = models
            self._epoch = table.epoch
            self._retiring += old.values()
        self._settle()

    def routes(self) -> list[Route]:
        """All versions of all models, by name."""
        with self._lock:
            return [b.route for _, m in sorted(self._models.items()) for b in m.versions.values()]

    def find(self, name: str, version: str = "") -> Route:
        """The route of a model whatever its state; raises NotFound, or Unavailable when there is no active version."""
        with self._lock:
            return self._find(name, version).route

    def _find(self, name: str, version: str) -> Backend:
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"Request for unknown model: '{name}' is not found", reason="MODEL_UNKNOWN")
        if version:
            backend = model.versions.get(version)
            if backend is None:
                known = ", ".join(sorted(model.versions))
                raise NotFound(
                    f"Request for unknown model: '{name}' version '{version}' is not found; there is {known}",
                    reason="VERSION_UNKNOWN",
                )
            return backend
        if model.active is None:
            raise Unavailable(
                f"model '{name}' has no active version; an operator must activate one", reason="MODEL_INACTIVE"
            )
        return model.active

    # --- calls -------------------------------------------------------------------------------------------------------

    def acquire(self, name: str, version: str = "", *, bounded: bool = True) -> Backend:
        """Counts a call on the engine of a model; ``release`` must follow. ``bounded`` False: whatever is in flight.

        Raises NotFound, Unavailable (not ready, with the state and why) or ResourceExhausted.
        """
        with self._lock:
            backend = self._find(name, version)
            route = backend.route
            if route.state not in _TAKES_CALLS or not route.socket:
                raise Unavailable(_not_ready(route), reason="MODEL_NOT_READY")
            bound = min(route.queue_max or self._calls_per_model_max, self._calls_per_model_max)
            if bounded and backend.in_flight >= bound:
                raise ResourceExhausted(
                    f"model '{name}' has {backend.in_flight} calls in flight, its bound is {bound}: try again later",
                    reason="QUEUE_FULL",
                )
            backend.in_flight += 1
            return backend

    def release(self, backend: Backend) -> None:
        """The call has come back."""
        with self._lock:
            backend.in_flight -= 1
            settled = not backend.in_flight and bool(self._retiring)
        if settled:
            self._settle()

    def _settle(self) -> None:
        with self._lock:
            idle = [b for b in self._retiring if not b.in_flight]
            self._retiring = [b for b in self._retiring if b.in_flight]
            epoch = self._epoch
            tell = not self._retiring and epoch != self._applied_epoch
            if tell:
                self._applied_epoch = epoch
        for backend in idle:
            backend.pool.close()
        if tell:
            self._applied(epoch)

    # --- counters ----------------------------------------------------------------------------------------------------

    def count_refused(self, route: Route) -> None:
        """A call was refused here, before it came to the engine."""
        with self._lock:
            key = f"{route.name}:{route.version}"
            self._refused[key] = self._refused.get(key, 0) + 1

    def count_lost(self, route: Route) -> None:
        """A call was in flight when its engine died."""
        with self._lock:
            key = f"{route.name}:{route.version}"
            self._lost[key] = self._lost.get(key, 0) + 1

    def take_counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """What was (refused, lost) since the last time, by "name:version"."""
        with self._lock:
            refused, lost = self._refused, self._lost
            self._refused, self._lost = {}, {}
        return refused, lost

    @property
    def in_flight(self) -> int:
        """All calls that are on their way to or from an engine."""
        with self._lock:
            live = sum(b.in_flight for m in self._models.values() for b in m.versions.values())
            return live + sum(b.in_flight for b in self._retiring)


def _not_ready(route: Route) -> str:
    words = {
        ModelState.STORED: "is stored but not loaded; an operator must activate it",
        ModelState.LOADING: "is being loaded: try again soon",
        ModelState.DRAINING: "is being unloaded",
        ModelState.FAILED: "could not be loaded",
        ModelState.QUARANTINED: "was taken out of service because its engine kept dying",
    }
    text = f"model '{route.name}' version '{route.version}' {words.get(route.state, 'is not ready')}"
    return f"{text}: {route.reason}" if route.reason else text
