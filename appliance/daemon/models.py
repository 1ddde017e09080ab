"""Which models run: the one owner of every engine, and of the routing table that follows from them.

Rules that keep calls from being dropped: a new version is loaded and proven before it is made the default; that is
written down durably before it is routed to; an old engine is drained only after every front-end has let go of it.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from appliance.config import Config
from appliance.control import Route, RouteTable
from appliance.daemon import wishes
from appliance.daemon.changes import Changes
from appliance.daemon.comeback import version_instead
from appliance.daemon.front_ends import FrontEnds
from appliance.daemon.inventory import Inventory, Key
from appliance.daemon.readiness import ReadinessLog
from appliance.daemon.refusals import not_activated, not_started
from appliance.daemon.sync_link import SyncLink, catalogue
from appliance.errors import ApplianceError, FailedPrecondition, NotFound
from appliance.questions import AskAdd, AskDesire, AskRemove, Desired, ModelVersion, Progress, VersionAnswer
from appliance.types import ModelState
from appliance.worker.engine_caches import EngineCaches
from appliance.worker.engine_group import EngineGroup
from appliance.worker.processors import Processors

_log = logging.getLogger(__name__)
# Longer than an engine is given to end by itself; what is left then dies with this process.
_STOP_SECONDS = 5.0

TellProgress = Callable[[Progress], None]


class Models:
    """All models of this daemon. One change of a model at a time; different models change side by side."""

    def __init__(self, config: Config, sync: SyncLink, sockets: Path, processors: Processors | None = None) -> None:
        self._config = config
        self._processors = processors
        self._sync = sync
        self._sockets = sockets
        self._caches = EngineCaches(config.state_dir)
        self._socket_numbers = itertools.count(1)
        self.inventory = Inventory()
        self.readiness_log = ReadinessLog()
        self._engines: dict[Key, EngineGroup] = {}
        self._trials: set[Key] = set()
        self._retiring: set[Key] = set()
        self._changes = Changes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._epoch = 0
        self._front_ends: FrontEnds | None = None

    # --- start and stop ----------------------------------------------------------------------------------------------

    async def start(self, front_ends: FrontEnds) -> None:
        """Learns what is stored and starts what should run; returns before the engines are ready."""
        self._front_ends = front_ends
        self.inventory.learn(await catalogue(self._sync))
        await asyncio.to_thread(self._caches.tidy, [model.digest for model in self.inventory.all()])
        for name, version in self.inventory.all_wanted():
            try:
                self._start_engine(self.inventory.find(name, version), trial=False)
            except NotFound:
                _log.error("%s:%s should run but is not in the store", name, version)
            except OSError as error:  # no room for a socket, say: the others can run all the same
                reason = self.inventory.failures[name, version] = not_started(error)
                _log.error("%s:%s: %s", name, version, reason)
        self.publish()

    async def settled(self) -> None:
        """Waits until every engine has been loaded, or has been given up."""
        for keeper in list(self._engines.values()):
            await keeper.settled()

    async def stop(self) -> None:
        """Ends all engines; no call may be on them any more."""
        for keeper in list(self._engines.values()):
            # The front-ends are gone, so nobody waits for an answer: an engine deep in a step need not finish it.
            keeper.drain(0.0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)

    # --- what operators ask ------------------------------------------------------------------------------------------

    async def add(self, ask: AskAdd, tell: TellProgress) -> VersionAnswer:
        """Stores an uploaded folder, proves it in an engine of its own, and makes it the default if asked to.

        A version that fails its proof leaves the store again. Raises the sync process's refusals, the engine's own
        (InvalidArgument for files that are no model), and FailedPrecondition when a golden test fails.
        """
        answer = await self._sync.ask(ask, tell)
        assert isinstance(answer, VersionAnswer)
        model = answer.model
        new = self.inventory.put(model)
        try:
            with self._changes.only(model.name):
                await self._load(model, tell)
                new = False  # proven: it stays, whatever comes
                if ask.activate:
                    await self._make_active(model, ask.keep_previous, tell)
                elif not self.inventory.is_wanted(model):
                    await self._unload((model.name, model.version))
        except Exception:  # unproven is unproven, whatever was in the way
            if new:
                await self._forget(model)
            raise
        return VersionAnswer(model)

    async def activate(
        self, name: str, version: str, beside: bool, keep_previous: bool, tell: TellProgress
    ) -> VersionAnswer:
        """Loads a version (the newest if none is named) and makes it the default, or lets it run beside."""
        model = self.inventory.find(name, version or self.inventory.newest(name))
        with self._changes.only(name):
            await self._load(model, tell)
            if beside:
                await self._desire(wishes.beside(self.inventory.desired(name), model.version))
            else:
                await self._make_active(model, keep_previous, tell)
        return VersionAnswer(model)

    async def deactivate(self, name: str, version: str, tell: TellProgress) -> None:
        """Unloads a version, or all of them; a call that is running is finished."""
        self.inventory.find(name, version or self.inventory.newest(name))
        with self._changes.only(name):
            gone = [version] if version else self.inventory.versions(name)
            await self._desire(wishes.deactivated(self.inventory.desired(name), gone))
            tell(Progress(f"unloading {name} {', '.join(gone)}"))
            for each in gone:
                await self._unload((name, each))

    async def remove(self, name: str, version: str) -> None:
        """Takes a version out of the store; raises FailedPrecondition while it is loaded."""
        model = self.inventory.find(name, version)
        with self._changes.only(name):
            if self.inventory.is_wanted(model):
                raise FailedPrecondition(
                    f"model '{name}' version '{version}' is loaded: deactivate it first", reason="MODEL_LOADED"
                )
            await self._unload((name, version))
            await self._forget(model)

    # --- looking -----------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[tuple[ModelVersion, EngineGroup | None, Route]]:
        """All stored versions by name and version, with their engines and routes."""
        for model in self.inventory.all():
            yield model, self._engines.get((model.name, model.version)), self._route(model)

    @property
    def missing(self) -> tuple[str, ...]:
        """The models that the configuration requires and that take no calls: while there are any, nothing is ready."""
        return tuple(name for name in self._config.models.required if not self._takes_calls(name))

    def _takes_calls(self, name: str) -> bool:
        keeper = self._engines.get((name, self.inventory.active_version(name)))
        return keeper is not None and keeper.state is ModelState.READY

    def publish(self) -> None:
        """Tells the front-ends how to route from now on."""
        if self._front_ends is None:
            return
        self._epoch += 1
        routes = tuple(self._route(m) for m in self.inventory.all())
        missing = self.missing
        self._front_ends.publish(RouteTable(self._epoch, routes, not missing))
        self.readiness_log.note(missing)

    def _route(self, model: ModelVersion) -> Route:
        key = (model.name, model.version)
        active = self.inventory.active_version(model.name) == model.version
        keeper = self._engines.get(key)
        if keeper is None:
            reason = self.inventory.failures.get(key, "")
            state = ModelState.FAILED if reason else ModelState.STORED
            return Route(*key, state, active, reason=reason)
        if key in self._retiring:
            return Route(*key, ModelState.DRAINING, active)
        if key in self._trials:
            return Route(*key, ModelState.LOADING, active)
        return keeper.route(active)

    # --- doing -------------------------------------------------------------------------------------------------------

    async def _load(self, model: ModelVersion, tell: TellProgress) -> None:
        """Makes sure that the version's engine is ready and its golden tests have passed."""
        key = (model.name, model.version)
        keeper = self._engines.get(key)
        if keeper is not None and keeper.state is ModelState.READY:
            await keeper.mend()
            return
        if keeper is not None:
            await self._unload(key)
        golden = len(model.spec.golden)
        tell(Progress(f"loading {model.name} {model.version} and running {golden} golden test(s)"))
        self.inventory.failures.pop(key, None)
        self._trials.add(key)
        try:
            keeper = self._start_engine(model, trial=True)
            state = await keeper.settled()
        finally:
            self._trials.discard(key)
        if state is not ModelState.READY:
            refused, reason = not_activated(keeper), keeper.reason
            keeper.drain(0.0)  # it may have died behind its proof, and would come up again
            self._engines.pop(key, None)
            self.inventory.failures[key] = reason
            self.publish()
            raise refused
        tell(Progress(f"{keeper.golden_passed} golden test(s) passed"))
        self.publish()

    async def _make_active(self, model: ModelVersion, keep_previous: bool, tell: TellProgress) -> None:
        name, version = model.name, model.version
        before = self.inventory.desired(name)
        await self._desire(wishes.activated(before, version, keep_previous))
        _log.info("%s: version %s is active", name, version)
        tell(Progress(f"{name} {version} is active"))
        if before.active and before.active != version and not keep_previous:
            await self._unload((name, before.active))

    async def _desire(self, desired: Desired) -> None:
        await self._sync.ask(AskDesire(desired))
        self.inventory.wish(desired)
        self.publish()

    async def _unload(self, key: Key) -> None:
        """Takes an engine out of the routing table, waits until no front-end has a call on it, and ends it."""
        keeper = self._engines.get(key)
        if keeper is None:
            return
        self._retiring.add(key)
        self.publish()
        if self._front_ends is not None:
            with contextlib.suppress(asyncio.TimeoutError):
                seconds = self._config.server.drain_seconds
                await asyncio.wait_for(self._front_ends.let_go(self._epoch, keeper.sockets), seconds)
        keeper.drain()
        await keeper.gone()
        _log.info("%s:%s is unloaded", *key)
        self._retiring.discard(key)
        self._engines.pop(key, None)
        self.publish()

    async def _forget(self, model: ModelVersion) -> None:
        await self._sync.ask(AskRemove(model.name, model.version))
        self.inventory.drop(model)
        await asyncio.to_thread(self._caches.forget, model.digest)
        self.publish()

    def _new_socket(self) -> Path:
        return self._sockets / f"{next(self._socket_numbers)}.sock"

    def _start_engine(self, model: ModelVersion, trial: bool) -> EngineGroup:
        keeper = EngineGroup(model, self._new_socket, self._config, lambda: self._changed(model), self._processors)
        self._engines[model.name, model.version] = keeper
        task = asyncio.create_task(keeper.run(trial))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return keeper

    def _changed(self, model: ModelVersion) -> None:
        keeper = self._engines.get((model.name, model.version))
        self.publish()
        if keeper is None or keeper.state is not ModelState.QUARANTINED or (model.name, model.version) in self._trials:
            return
        previous = version_instead(model.version, self.inventory.desired(model.name), partial(self._state, model.name))
        if not previous:
            return
        task = asyncio.create_task(self._bring_back(keeper, previous))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _state(self, name: str, version: str) -> ModelState | None:
        keeper = self._engines.get((name, version))
        return keeper.state if keeper else None

    async def _bring_back(self, quarantined: EngineGroup, version: str) -> None:
        name = quarantined.model.name
        await self._changes.idle(name)
        key = (name, self.inventory.active_version(name))
        if self._engines.get(key) is not quarantined:
            return  # an operator was faster
        try:
            await self.activate(name, version, beside=False, keep_previous=True, tell=lambda _: None)
        except ApplianceError as error:
            _log.error("%s: the previous version %s cannot come back: %s", name, version, error.message)
