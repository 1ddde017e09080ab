"""Which models run, as operators and updates ask for it.

Rules that keep calls from being dropped: a new version is loaded and proven before it is made the default; that is
written down durably before it is routed to; an old engine is drained only after every front-end has let go of it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance import events
from appliance.comparison import Outcome, Plan
from appliance.config import Config
from appliance.control import Route
from appliance.daemon import comparison_refusals, refusals, wishes
from appliance.daemon.comparison_run import Acts
from appliance.daemon.comparisons import Comparisons
from appliance.daemon.engines import Engines
from appliance.daemon.events import tell as tell_event
from appliance.daemon.front_ends import FrontEnds
from appliance.daemon.inventory import Inventory
from appliance.daemon.readiness import ReadinessLog
from appliance.daemon.switch import Switch
from appliance.daemon.sync_link import SyncLink, catalogue
from appliance.daemon.trial_watch import room_beside
from appliance.daemon.way_back import Allowed, Lost, WayBack
from appliance.errors import ApplianceError, FailedPrecondition, NotFound
from appliance.questions import AskAdd, AskRemove, Progress, VersionAnswer
from appliance.types import ModelState
from appliance.versions import Desired, ModelVersion
from appliance.worker.engine_caches import EngineCaches
from appliance.worker.engine_group import EngineGroup
from appliance.worker.processors import Processors

_log = logging.getLogger(__name__)

TellProgress = Callable[[Progress], None]


class Models:
    """All models of this daemon. One change of a model at a time; different models change side by side."""

    def __init__(
        self,
        config: Config,
        sync: SyncLink,
        sockets: Path,
        processors: Processors | None = None,
        lost: Lost = lambda _: 0,
        allowed: Allowed = lambda _name, _version: True,
    ) -> None:
        """``allowed(name, version)``: whether there may be a way back to it; ``lost("name:version")``: see way_back.py."""
        self._sync = sync
        self._caches = EngineCaches(config.state_dir)
        self.inventory = Inventory()
        self._engines = Engines(config, sockets, processors, self.inventory, self._changed)
        self._switch = Switch(sync, self.inventory, self._engines)
        self._back = WayBack(self._switch, self.inventory, self._engines, lost, allowed)
        acts = Acts(self._back.see, self._promote, self._back.condemn, room_beside)
        self.comparisons = Comparisons(self._switch, self.inventory, self._engines, acts, config.state_dir)
        self._switch.followed = self._followed

    # --- start and stop ----------------------------------------------------------------------------------------------

    async def start(self, front_ends: FrontEnds) -> None:
        """Learns what is stored and starts what should run; returns before the engines are ready."""
        self._engines.front_ends = front_ends
        self.inventory.learn(await catalogue(self._sync))
        await asyncio.to_thread(self._caches.tidy, [model.digest for model in self.inventory.all()])
        for name, version in self.inventory.all_wanted():
            try:
                self._engines.start(self.inventory.find(name, version), trial=False)
            except NotFound:
                facts = events.MODEL_MISSING.of(name, version)
                _log.error("%s:%s should run but is not in the store", name, version, extra=facts)
            except OSError as error:  # no room for a socket, say: the others can run all the same
                reason = self.inventory.failures[name, version] = refusals.not_started(error)
                facts = events.MODEL_NOT_STARTED.of(name, version)
                _log.error("%s:%s: %s", name, version, reason, extra=facts)
        self.publish()
        self._back.resume()
        await self.comparisons.resume()

    async def settled(self) -> None:
        """Waits until every engine has been loaded, or has been given up."""
        await self._engines.settled()

    async def stop(self) -> None:
        """Ends all engines; no call may be on them any more."""
        self._back.stop()
        self.comparisons.stop()
        await self._engines.stop()

    def reconfigure(self, config: Config) -> None:
        """The configuration has changed."""
        self._engines.reconfigure(config)

    def stored(self, model: ModelVersion) -> None:
        """The sync process has stored a version by itself."""
        self.inventory.put(model)
        self.publish()

    async def idle(self, name: str) -> None:
        """Waits for the end of a change of the model, an operator's load of gigabytes included."""
        await self._switch.changes.idle(name)

    # --- what operators ask ------------------------------------------------------------------------------------------

    async def add(self, ask: AskAdd, tell: TellProgress) -> VersionAnswer:
        """Stores an uploaded folder, proves it in an engine of its own, and makes it the default if asked to.

        A version that fails its proof leaves the store again. Raises the sync process's refusals, the engine's own
        (InvalidArgument for files that are no model), and FailedPrecondition when a golden test fails, or when the
        version is quarantined.
        """
        answer = await self._sync.ask(ask, tell)
        assert isinstance(answer, VersionAnswer)
        model = answer.model
        new = self.inventory.put(model)
        try:
            with self._switch.changes.only(model.name):
                if ask.activate:
                    self._check_not_bad(model)
                await self._engines.load(model, tell)
                new = False  # proven: it stays, whatever comes
                if ask.activate:
                    await self._make_active(model, ask.keep_previous, ask.probation_seconds, tell)
                elif not self.inventory.is_wanted(model) and self.comparisons.candidate(model.name) != model.version:
                    await self._engines.unload(model.name, model.version)
        except Exception:  # unproven is unproven, whatever was in the way
            if new:
                await self._forget(model)
            raise
        return VersionAnswer(model)

    async def activate(
        self,
        name: str,
        version: str,
        beside: bool,
        keep_previous: bool,
        tell: TellProgress,
        probation_seconds: float = 0.0,
        force: bool = False,
    ) -> VersionAnswer:
        """Loads a version (the newest if none is named) and makes it the default, or lets it run beside.

        ``probation_seconds``: how long it is then compared with the version before it, and rolled back if it is worse.
        Raises NotFound, the engine's refusals, and FailedPrecondition for a quarantined version, unless ``force``.
        """
        model = self.inventory.find(name, version or self.inventory.newest(name))
        with self._switch.changes.only(name):
            if not force:
                self._check_not_bad(model)
            try:
                await self._engines.load(model, tell)
            except ApplianceError as error:
                if probation_seconds > 0:
                    await self._back.refused(model, error)
                raise
            if self.inventory.bad(model) is not None:
                await self._switch.desire(wishes.lifted(self.inventory.desired(name), model.version))
                tell_event(
                    events.MODEL_QUARANTINE_LIFTED, name, model.version, "is no longer quarantined: it was forced"
                )
            if beside:
                await self._switch.desire(wishes.beside(self.inventory.desired(name), model.version))
            else:
                await self._make_active(model, keep_previous, probation_seconds, tell)
        return VersionAnswer(model)

    async def roll_back(self, name: str, tell: TellProgress) -> VersionAnswer:
        """Goes back to the version that was active before; see WayBack.by_hand."""
        return VersionAnswer(await self._back.by_hand(name, tell))

    async def deactivate(self, name: str, version: str, tell: TellProgress) -> None:
        """Unloads a version, or all of them; a call that is running is finished."""
        self.inventory.find(name, version or self.inventory.newest(name))
        if self.comparisons.candidate(name) and version in ("", self.comparisons.candidate(name)):
            await self.comparisons.end(name, promote=False, say=tell)
        with self._switch.changes.only(name):
            gone = [version] if version else self.inventory.versions(name)
            before = self.inventory.desired(name)
            await self._switch.desire(wishes.deactivated(before, gone))
            tell(Progress(f"unloading {name} {', '.join(gone)}"))
            for each in gone:
                await self._engines.unload(name, each)
            await self._switch.unload_rest(before)

    async def remove(self, name: str, version: str) -> None:
        """Takes a version out of the store; raises FailedPrecondition while it is loaded, or may have to come back."""
        model = self.inventory.find(name, version)
        with self._switch.changes.only(name):
            if self.inventory.is_wanted(model):
                raise FailedPrecondition(
                    f"model '{name}' version '{version}' is loaded: deactivate it first", reason="MODEL_LOADED"
                )
            desired = self.inventory.desired(name)
            if desired.probation is not None and desired.previous == version:
                raise refusals.needed_for_probation(name, version, desired.active)
            if self.comparisons.candidate(name) == version:
                raise comparison_refusals.needed(name, version)
            await self._engines.unload(name, version)
            await self._forget(model)

    async def compared(self, name: str, version: str, plan: Plan) -> None:
        """Compares a version with the active one to the end: returns when it may take over, or can't be compared.

        Raises FailedPrecondition CANDIDATE_WORSE, or whatever kept it from being compared to the end.
        """
        model = self.inventory.find(name, version)
        if self.inventory.active_version(name) in ("", version):
            return
        try:
            record = await self.comparisons.begin(name, version, plan, lambda _: None, waited=True)
        except ApplianceError as error:
            if error.reason == "NO_ROOM_BESIDE":
                facts = events.UPDATE_NOT_COMPARED.of(name, version, error.reason)
                _log.warning(
                    "%s:%s is not compared before it takes over: %s", name, version, error.message, extra=facts
                )
                return
            if error.reason not in ("COMPARISON_RUNNING", "MODEL_BUSY", "VERSION_QUARANTINED"):
                await self._back.refused(model, error)
            raise
        if (await self.comparisons.outcome(record)).outcome is not Outcome.PROMOTED:
            raise comparison_refusals.worse(record)

    async def _promote(self, name: str, version: str, seconds: float, tell: TellProgress) -> VersionAnswer:
        return await self.activate(name, version, False, False, tell, seconds)

    def _followed(self, desired: Desired) -> None:
        self._back.follow(desired)
        self.comparisons.follow(desired)

    # --- looking -----------------------------------------------------------------------------------------------------

    def rows(self) -> Iterator[tuple[ModelVersion, EngineGroup | None, Route]]:
        """All stored versions by name and version, with their engines and routes."""
        return self._engines.rows()

    @property
    def missing(self) -> tuple[str, ...]:
        """The models that the configuration requires and that take no calls: while there are any, nothing is ready."""
        return self._engines.missing

    @property
    def standing(self) -> dict[str, ModelState | None]:
        """See Engines.standing."""
        return self._engines.standing

    @property
    def readiness_log(self) -> ReadinessLog:
        """What the log says of required models."""
        return self._engines.readiness_log

    def publish(self) -> None:
        """Tells the front-ends how to route from now on."""
        self._engines.publish()

    # --- doing -------------------------------------------------------------------------------------------------------

    def _check_not_bad(self, model: ModelVersion) -> None:
        bad = self.inventory.bad(model)
        if bad is not None:
            raise refusals.quarantined(model.name, bad)

    async def _make_active(self, model: ModelVersion, keep_previous: bool, seconds: float, tell: TellProgress) -> None:
        """``seconds``: how long it is then on probation."""
        name, version = model.name, model.version
        before = self.inventory.desired(name)
        probation = self._back.probation(before, version, seconds)
        hold = probation is not None and self._back.holds_previous()
        await self._switch.desire(wishes.activated(before, version, keep_previous, probation, hold))
        tell_event(events.MODEL_ACTIVATED, name, version, "is active")
        tell(Progress(f"{name} {version} is active"))
        if probation is not None:
            previous = self.inventory.desired(name).previous
            way = "stays loaded" if hold else "is unloaded, as memory is short, and would have to be loaded first"
            text = f"is on probation for {seconds:g} s; {previous}, which would come back, {way}"
            tell_event(events.MODEL_PROBATION_BEGAN, name, version, text)
            tell(Progress(f"{name} {version} is on probation for {seconds:g} s"))
        elif seconds > 0 and before.active != version:
            tell(Progress("there is no version before it to compare it with, so it is not on probation"))
        await self._switch.unload_rest(before)

    async def _forget(self, model: ModelVersion) -> None:
        await self._sync.ask(AskRemove(model.name, model.version))
        self.inventory.drop(model)
        await asyncio.to_thread(self._caches.forget, model.digest)
        self.publish()

    def _changed(self, model: ModelVersion) -> None:
        self._back.engines_changed(model)
        self.comparisons.nudge(model)
