"""The engines that there are, and the routing table that follows from them.

Rule that keeps calls from being dropped: an engine is drained only after every front-end has let go of it.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from appliance.comparison import Beside
from appliance.config import Config
from appliance.control import Route, RouteTable
from appliance.daemon.front_ends import FrontEnds
from appliance.daemon.inventory import Inventory, Key
from appliance.daemon.readiness import ReadinessLog
from appliance.daemon.refusals import not_activated
from appliance.questions import Progress
from appliance.types import ModelState
from appliance.versions import ModelVersion
from appliance.worker.engine_group import EngineGroup
from appliance.worker.processors import Processors

_log = logging.getLogger(__name__)
# Longer than an engine is given to end by itself; what is left then dies with this process.
_STOP_SECONDS = 5.0


class Engines:
    """Starts, drains and shows them. Which of them there should be, others decide (models.py)."""

    def __init__(
        self,
        config: Config,
        sockets: Path,
        processors: Processors | None,
        inventory: Inventory,
        changed: Callable[[ModelVersion], None],
    ) -> None:
        """``changed`` is called after each change of a version's engines, except while they are on trial."""
        self.readiness_log = ReadinessLog()
        self.front_ends: FrontEnds | None = None
        # Candidates that get a share of the active version's calls, by model; seen by front-ends at the next ``publish``.
        self.besides: dict[str, Beside] = {}
        self._config = config
        self._sockets = sockets
        self._processors = processors
        self._inventory = inventory
        self._changed = changed
        self._numbers = itertools.count(1)
        self._groups: dict[Key, EngineGroup] = {}
        self._trials: set[Key] = set()
        self._retiring: set[Key] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._epoch = 0

    # --- looking -----------------------------------------------------------------------------------------------------

    def find(self, name: str, version: str) -> EngineGroup | None:
        """The engines of a version, whatever their state."""
        return self._groups.get((name, version))

    def state(self, name: str, version: str) -> ModelState | None:
        """How a version's engines stand; None when there are none."""
        group = self.find(name, version)
        return group.state if group else None

    def rows(self) -> Iterator[tuple[ModelVersion, EngineGroup | None, Route]]:
        """All stored versions by name and version, with their engines and routes."""
        for model in self._inventory.all():
            yield model, self.find(model.name, model.version), self._route(model)

    @property
    def missing(self) -> tuple[str, ...]:
        """The models that the configuration requires and that take no calls: while there are any, nothing is ready."""
        return tuple(name for name in self._config.models.required if not self._takes_calls(name))

    @property
    def standing(self) -> dict[str, ModelState | None]:
        """How the active version of each model stands, and each required model; None: it has no engine."""
        active = {desired.name for desired in self._inventory.all_desired() if desired.active}
        names = sorted(active.union(self._config.models.required))
        return {name: self.state(name, self._inventory.active_version(name)) for name in names}

    def _takes_calls(self, name: str) -> bool:
        return self.state(name, self._inventory.active_version(name)) is ModelState.READY

    def publish(self) -> None:
        """Tells the front-ends how to route from now on."""
        if self.front_ends is None:
            return
        self._epoch += 1
        routes = tuple(self._route(m) for m in self._inventory.all())
        missing = self.missing
        self.front_ends.publish(RouteTable(self._epoch, routes, not missing))
        self.readiness_log.note(missing)

    def _route(self, model: ModelVersion) -> Route:
        key = (model.name, model.version)
        active = self._inventory.active_version(model.name) == model.version
        group = self._groups.get(key)
        if group is None:
            reason = self._inventory.failures.get(key, "")
            state = ModelState.FAILED if reason else ModelState.STORED
            return Route(*key, state, active, reason=reason)
        if key in self._retiring:
            return Route(*key, ModelState.DRAINING, active)
        if key in self._trials:
            return Route(*key, ModelState.LOADING, active)
        route = group.route(active)
        beside = self.besides.get(model.name) if active else None
        if beside is None or beside.version == model.version:
            return route
        return msgspec.structs.replace(route, beside=beside)

    def reconfigure(self, config: Config) -> None:
        """Engines that start from now on go by ``config``, and so does what is required."""
        self._config = config
        self.publish()

    # --- doing -------------------------------------------------------------------------------------------------------

    def start(self, model: ModelVersion, trial: bool) -> EngineGroup:
        """Starts a version's engines and returns at once. Raises OSError when not even a socket can be made."""
        group = EngineGroup(model, self._new_socket, self._config, lambda: self._group_changed(model), self._processors)
        self._groups[model.name, model.version] = group
        task = asyncio.create_task(group.run(trial))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return group

    async def load(self, model: ModelVersion, tell: Callable[[Progress], None]) -> None:
        """Makes sure that the version's engines are ready and its golden tests have passed; raises why they aren't."""
        key = (model.name, model.version)
        group = self._groups.get(key)
        if group is not None and group.state is ModelState.READY:
            await group.mend()
            return
        if group is not None:
            await self.unload(*key)
        golden = len(model.spec.golden)
        tell(Progress(f"loading {model.name} {model.version} and running {golden} golden test(s)"))
        self._inventory.failures.pop(key, None)
        self._trials.add(key)
        try:
            group = self.start(model, trial=True)
            state = await group.settled()
        finally:
            self._trials.discard(key)
        if state is not ModelState.READY:
            refused, reason = not_activated(group), group.reason
            group.drain(0.0)  # it may have died behind its proof, and would come up again
            self._groups.pop(key, None)
            self._inventory.failures[key] = reason
            self.publish()
            raise refused
        tell(Progress(f"{group.golden_passed} golden test(s) passed"))
        self.publish()

    async def unload(self, name: str, version: str) -> None:
        """Takes an engine out of the routing table, waits until no front-end has a call on it, and ends it."""
        key = (name, version)
        group = self._groups.get(key)
        if group is None:
            return
        self._retiring.add(key)
        self.publish()
        if self.front_ends is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                seconds = self._config.server.drain_seconds
                await asyncio.wait_for(self.front_ends.let_go(self._epoch, group.sockets), seconds)
        group.drain()
        await group.gone()
        _log.info("%s:%s is unloaded", *key)
        self._retiring.discard(key)
        self._groups.pop(key, None)
        self.publish()

    async def settled(self) -> None:
        """Waits until every engine has been loaded, or has been given up."""
        for group in list(self._groups.values()):
            await group.settled()

    async def stop(self) -> None:
        """Ends all engines; no call may be on them any more."""
        for group in list(self._groups.values()):
            # The front-ends are gone, so nobody waits for an answer: an engine deep in a step need not finish it.
            group.drain(0.0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)

    def _new_socket(self) -> Path:
        return self._sockets / f"{next(self._numbers)}.sock"

    def _group_changed(self, model: ModelVersion) -> None:
        self.publish()
        if (model.name, model.version) not in self._trials:
            self._changed(model)
