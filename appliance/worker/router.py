"""Which engine a request goes to, in a front-end: the supervisor's routing table and the calls that are on their way.

A new table replaces the old one at once. An engine that is no longer in it gets no new call; the front-end tells which
of these still have calls (``Applied``), and only when one has none left does the supervisor stop it: this is what makes
a switch of versions drop nothing.
"""

import os
import threading
from collections.abc import Callable

import msgspec

from appliance.control import Route, RouteTable
from appliance.errors import ApplianceError, NotFound, ResourceExhausted, Unavailable
from appliance.types import ModelState
from appliance.worker.connection import ConnectionPool
from appliance.worker.instances import home_of, least_busy, number_of

_TAKES_CALLS = (ModelState.READY, ModelState.RESTARTING)

# (epoch, sockets): routed by that table; the engines outside of it with these sockets still have calls.
Applied = Callable[[int, tuple[str, ...]], None]


class Backend:
    """One engine as this front-end sees it: its connections and how many calls are on it."""

    __slots__ = ("in_flight", "pool", "retiring", "route", "seed", "version")

    def __init__(self, route: Route, socket: str, version: "Version") -> None:
        self.route = route
        self.version = version
        self.pool = ConnectionPool(socket)
        self.seed = number_of(socket)
        self.in_flight = 0
        self.retiring = False


class Version:
    """One version of a model: the engines that take its calls, and the calls on all that ever did."""

    __slots__ = ("backends", "bound", "in_flight", "route", "turn")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.backends: tuple[Backend, ...] = ()
        self.bound = 0
        self.in_flight = 0
        # Front-ends begin at different instances, and so stay apart while each has few calls.
        self.turn = os.getpid()

    def follow(self, route: Route, calls_max: int, known: dict[str, Backend]) -> None:
        """Takes over a row of a new table; of the ``known`` engines by socket, those that stay are taken out."""
        if self.route.signature == route.signature:
            # The same object, so that what is remembered of a signature by its identity (serve/plans.py) stays good.
            route = msgspec.structs.replace(route, signature=self.route.signature)
        self.route = route
        self.bound = min(route.queue_max or calls_max, calls_max)
        self.backends = tuple(self._backend(socket, known) for socket in sockets_of(route))

    def _backend(self, socket: str, known: dict[str, Backend]) -> Backend:
        backend = known.pop(socket, None)
        if backend is None:
            return Backend(self.route, socket, self)
        backend.route, backend.retiring = self.route, False
        return backend


class Router:
    """Thread-safe: handlers lease backends while the control thread applies new tables."""

    def __init__(self, calls_per_model_max: int, applied: Applied = lambda _epoch, _busy: None) -> None:
        """``applied(epoch, busy)`` is called, from any thread, after each change of either; never two at a time."""
        self._lock = threading.Lock()
        self._versions: dict[tuple[str, str], Version] = {}
        self._active: dict[str, Version] = {}
        self._models: dict[str, tuple[Route, ...]] = {}
        self._routes: tuple[Route, ...] = ()
        self._retiring: list[Backend] = []
        self._epoch = 0
        self._applied = applied
        # Held while it is found out what to tell and while that is told, so that the last word is the newest.
        self._telling = threading.Lock()
        self._calls_per_model_max = calls_per_model_max
        self._refused: dict[str, int] = {}
        self._lost: dict[str, int] = {}

    # --- the table ---------------------------------------------------------------------------------------------------

    def apply(self, table: RouteTable) -> None:
        """Routes by ``table`` from now on."""
        with self._lock:
            known = {b.pool.path: b for b in self._retiring}
            known |= {b.pool.path: b for v in self._versions.values() for b in v.backends}
            versions: dict[tuple[str, str], Version] = {}
            active: dict[str, Version] = {}
            models: dict[str, tuple[Route, ...]] = {}
            for route in table.routes:
                key = (route.name, route.version)
                version = versions[key] = self._versions.get(key) or Version(route)
                version.follow(route, self._calls_per_model_max, known)
                models[route.name] = (*models.get(route.name, ()), version.route)
                if route.active:
                    active[route.name] = version
            self._versions, self._active, self._models = versions, active, models
            self._routes = tuple(route for _, routes in sorted(models.items()) for route in routes)
            self._epoch = table.epoch
            self._retiring = list(known.values())
            for backend in self._retiring:
                backend.retiring = True
        self._settle()

    def routes(self) -> tuple[Route, ...]:
        """All versions of all models, by name."""
        return self._routes

    def versions_of(self, name: str) -> tuple[Route, ...]:
        """All versions of one model; empty for an unknown one."""
        return self._models.get(name, ())

    def find(self, name: str, version: str = "") -> Route:
        """The route of a model whatever its state; raises NotFound, or Unavailable when there is no active version."""
        with self._lock:
            return self._find(name, version).route

    def _find(self, name: str, version: str) -> Version:
        try:
            return self._versions[name, version] if version else self._active[name]
        except KeyError:
            raise self._nowhere(name, version) from None

    def _nowhere(self, name: str, version: str) -> ApplianceError:
        routes = self._models.get(name)
        if routes is None:
            return NotFound(f"Request for unknown model: '{name}' is not found", reason="MODEL_UNKNOWN")
        if not version:
            text = f"model '{name}' has no active version; an operator must activate one"
            return Unavailable(text, reason="MODEL_INACTIVE")
        known = ", ".join(sorted(route.version for route in routes))
        return NotFound(
            f"Request for unknown model: '{name}' version '{version}' is not found; there is {known}",
            reason="VERSION_UNKNOWN",
        )

    # --- calls -------------------------------------------------------------------------------------------------------

    def acquire(
        self, name: str, version: str = "", *, bounded: bool = True, sticky: str = "", instance: str = ""
    ) -> Backend:
        """Counts a call on an instance of a model; ``release`` must follow. ``bounded`` False: whatever is in flight.

        The instance is the least busy one; or the one that all front-ends choose for ``sticky``, the name of a
        sequence; or the one with the socket ``instance``, while it is there.
        Raises NotFound, Unavailable (not ready, with the state and why) or ResourceExhausted.
        """
        key = number_of(sticky) if sticky else 0
        with self._lock:
            chosen = self._find(name, version)
            backends = chosen.backends
            if not backends:
                raise Unavailable(_not_ready(chosen.route), reason="MODEL_NOT_READY")
            if bounded and chosen.in_flight >= chosen.bound:
                raise ResourceExhausted(
                    f"model '{name}' has {chosen.in_flight} calls in flight, its bound is {chosen.bound}: "
                    "try again later",
                    reason="QUEUE_FULL",
                )
            if len(backends) == 1:
                backend = backends[0]
            elif sticky:
                backend = home_of(backends, key)
            else:
                index = least_busy(backends, chosen.turn)
                chosen.turn = index + 1
                backend = backends[index]
                if instance:
                    backend = next((b for b in backends if b.pool.path == instance), backend)
            backend.in_flight += 1
            chosen.in_flight += 1
            return backend

    def moved(self, backend: Backend, sticky: str = "") -> Backend:
        """The backend of a call that is to be sent (again): another instance's where this one has left the table.

        Raises what ``acquire`` raises; the call then still has ``backend``.
        """
        if not backend.retiring:
            return backend
        new = self.acquire(backend.route.name, backend.route.version, bounded=False, sticky=sticky)
        self.release(backend)
        return new

    def release(self, backend: Backend) -> None:
        """The call has come back."""
        with self._lock:
            backend.version.in_flight -= 1
            backend.in_flight -= 1
            settled = backend.retiring and not backend.in_flight
        if settled:
            self._settle()

    def _settle(self) -> None:
        """Lets go of engines outside of the table that have no call left, and tells which still have."""
        with self._telling:
            with self._lock:
                idle = [b for b in self._retiring if not b.in_flight]
                self._retiring = [b for b in self._retiring if b.in_flight]
                epoch, busy = self._epoch, tuple(b.pool.path for b in self._retiring)
            for backend in idle:
                backend.pool.close()
            self._applied(epoch, busy)

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

    def crowded(self, name: str, version: str) -> bool:
        """Whether half of a version's places are taken, or it takes no calls: nothing that can do without belongs there."""
        with self._lock:
            found = self._versions.get((name, version))
            return found is None or not found.backends or found.in_flight * 2 >= found.bound

    @property
    def in_flight(self) -> int:
        """All calls that are on their way to or from an engine."""
        with self._lock:
            live = sum(b.in_flight for v in self._versions.values() for b in v.backends)
            return live + sum(b.in_flight for b in self._retiring)


def sockets_of(route: Route) -> tuple[str, ...]:
    """Of all instances that take calls."""
    return (route.socket, *route.more_sockets) if route.socket and route.state in _TAKES_CALLS else ()


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
