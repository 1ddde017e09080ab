"""The way back from a version: by hand, by the verdict of its probation, or because its engines keep dying."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from appliance import events, limits
from appliance.clock import Clock, SystemClock
from appliance.daemon import refusals, wishes
from appliance.daemon.comeback import version_instead
from appliance.daemon.engines import Engines
from appliance.daemon.events import tell
from appliance.daemon.inventory import Inventory
from appliance.daemon.probation import Seen, Verdict, measured
from appliance.daemon.switch import Switch
from appliance.daemon.trial_watch import TrialWatch, room_for_previous
from appliance.errors import ApplianceError, Code, NotFound
from appliance.questions import Progress
from appliance.types import ModelState
from appliance.versions import BadVersion, Desired, Measured, ModelVersion, OnProbation
from appliance.worker.engine_group import EngineGroup

_log = logging.getLogger(__name__)
# Memory or a process was missing: that says nothing of the version.
_PASSING = (Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE)

# Whether (model, version) may run by what is known of releases now.
Allowed = Callable[[str, str], bool]
# How many calls were in flight when an engine of "model:version" died.
Lost = Callable[[str], int]


class WayBack:
    """Owns which versions are on probation."""

    def __init__(
        self,
        switch: Switch,
        inventory: Inventory,
        engines: Engines,
        lost: Lost,
        allowed: Allowed,
        clock: Clock | None = None,
    ) -> None:
        self._switch = switch
        self._inventory = inventory
        self._engines = engines
        self._lost = lost
        self._allowed = allowed
        self._clock = clock or SystemClock()
        self._tasks: set[asyncio.Task[None]] = set()
        acts = {Verdict.COMMIT: self._commit, Verdict.ROLL_BACK: self._roll_back}
        self._watch = TrialWatch(self._see, acts, self._give_up, self._clock)
        switch.followed = self.follow = self._watch.follow

    # --- probation ---------------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Goes on with what was on probation when the daemon ended."""
        for desired in self._inventory.all_desired():
            self._watch.follow(desired)

    def stop(self) -> None:
        """Acts no more; what is on probation remains so."""
        self._watch.stop()
        for task in self._tasks:
            task.cancel()

    def probation(self, before: Desired, version: str, seconds: float) -> OnProbation | None:
        """For ``version``, which is to take over; None without a time, or where there is nothing to compare it with."""
        previous = wishes.fallback(before, version)
        returns = before.probation is not None and version == before.previous
        # One that is damaged, and so not in the inventory, is nothing to come back to either.
        known_here = previous in self._inventory.versions(before.name)
        if seconds <= 0 or not known_here or previous == version or returns:
            return None
        # What was unproven is no measure either: that remains the one before it.
        known = before.probation.before if before.probation is not None else self._see(before.name, previous).calls
        return OnProbation(self._now_ms() + int(seconds * 1000), seconds, known)

    def holds_previous(self) -> bool:
        """Whether the previous version can stay loaded, so that the way back is an instant one."""
        return room_for_previous()

    async def refused(self, model: ModelVersion, error: ApplianceError) -> None:
        """An update's engine did not come up: it is quarantined, unless another time it may."""
        if error.code in _PASSING or self._inventory.is_wanted(model):
            return
        bad = self._bad(model.name, model.version, error.message)
        await self._switch.desire(wishes.quarantined(self._inventory.desired(model.name), bad))
        tell(events.MODEL_QUARANTINED, model.name, model.version, f"is not activated again unless forced: {bad.reason}")

    async def condemn(self, model: ModelVersion, reason: str) -> None:
        """A version has shown that it is bad without having been active: it is quarantined."""
        await self._switch.changes.idle(model.name)
        with self._switch.changes.only(model.name):
            bad = self._bad(model.name, model.version, reason)
            await self._switch.desire(wishes.quarantined(self._inventory.desired(model.name), bad))
            tell(
                events.MODEL_QUARANTINED,
                model.name,
                model.version,
                f"is not activated again unless forced: {bad.reason}",
            )

    def see(self, name: str, version: str) -> Seen:
        """What a version's engines did since they were started."""
        return self._see(name, version)

    def _bad(self, name: str, version: str, reason: str) -> BadVersion:
        digest = self._inventory.digest(name, version)
        return BadVersion(version, digest, reason[: limits.quarantine_reason_chars_max], self._now_ms())

    def _now_ms(self) -> int:
        return self._clock.wall_ns() // 1_000_000

    def _see(self, name: str, version: str) -> Seen:
        group = self._engines.find(name, version)
        if group is None:
            return Seen(Measured(), 0, None, self._inventory.failures.get((name, version), ""))
        calls = measured(group.stats, self._lost(f"{name}:{version}"))
        return Seen(calls, group.restarts, group.state, group.reason)

    def _on_probation(self, name: str, version: str) -> Desired | None:
        """What should run, if the version is still on probation: an operator may have been faster."""
        desired = self._inventory.desired(name)
        return desired if desired.probation is not None and desired.active == version else None

    async def _commit(self, name: str, version: str, reason: str) -> None:
        await self._end_probation(
            name, version, lambda: tell(events.MODEL_COMMITTED, name, version, f"stays: {reason}")
        )

    async def _give_up(self, name: str, version: str, _reason: str) -> None:
        await self._end_probation(name, version, lambda: None)

    async def _end_probation(self, name: str, version: str, say: Callable[[], None]) -> None:
        await self._switch.changes.idle(name)
        with self._switch.changes.only(name):
            before = self._on_probation(name, version)
            if before is not None:
                await self._switch.desire(wishes.committed(before))
                say()
                await self._switch.unload_rest(before)

    async def _roll_back(self, name: str, version: str, reason: str) -> None:
        await self._switch.changes.idle(name)
        with self._switch.changes.only(name):
            if self._on_probation(name, version) is not None:
                await self._go_back(name, reason, lambda _: None)

    # --- by hand -----------------------------------------------------------------------------------------------------

    async def by_hand(self, name: str, say: Callable[[Progress], None]) -> ModelVersion:
        """Makes the previous version the active one, which is quarantined; the version that is active now.

        Raises NotFound for an unknown model, FailedPrecondition where there is no way back, or no longer.
        """
        self._inventory.newest(name)
        with self._switch.changes.only(name):
            return await self._go_back(name, "an operator rolled it back", say)

    async def _go_back(self, name: str, reason: str, say: Callable[[Progress], None]) -> ModelVersion:
        before = self._inventory.desired(name)
        model = self._previous(before)
        bad = self._bad(name, before.active, reason)
        await self._engines.load(model, say)
        await self._switch.desire(wishes.rolled_back(before, bad))
        tell(events.MODEL_ROLLED_BACK, name, bad.version, f"was rolled back to {model.version}: {reason}")
        tell(events.MODEL_QUARANTINED, name, bad.version, "is not activated again unless forced")
        say(Progress(f"{name} {model.version} is active; {bad.version} is quarantined"))
        await self._switch.unload_rest(before)
        return model

    def _previous(self, before: Desired) -> ModelVersion:
        name, previous = before.name, before.previous
        if not before.active or previous in ("", before.active):
            raise refusals.nothing_before(name, before.active)
        try:
            model = self._inventory.find(name, previous)
        except NotFound:
            raise refusals.previous_gone(name, previous) from None
        bad = self._inventory.bad(model)
        if bad is not None:
            raise refusals.quarantined(name, bad)
        if not self._allowed(name, previous):
            raise refusals.previous_not_allowed(name, previous)
        return model

    # --- engines that keep dying -------------------------------------------------------------------------------------

    def engines_changed(self, model: ModelVersion) -> None:
        """Something became of a version's engines: acts where that calls for another version."""
        name, version = model.name, model.version
        group = self._engines.find(name, version)
        if self._watch.nudge(name, version) or group is None or group.state is not ModelState.QUARANTINED:
            return
        previous = version_instead(version, self._inventory.desired(name), partial(self._engines.state, name))
        if previous:
            task = asyncio.create_task(self._bring_back(group, previous))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _bring_back(self, quarantined: EngineGroup, version: str) -> None:
        name = quarantined.model.name
        await self._switch.changes.idle(name)
        active = self._inventory.active_version(name)
        if self._engines.find(name, active) is not quarantined:
            return  # an operator was faster
        try:
            with self._switch.changes.only(name):
                await self._engines.load(self._inventory.find(name, version), lambda _: None)
                before = self._inventory.desired(name)
                await self._switch.desire(wishes.activated(before, version, keep_previous=True))
        except ApplianceError as error:
            facts = events.MODEL_ROLLBACK_FAILED.of(name, version, error.reason)
            _log.error("%s: the previous version %s cannot come back: %s", name, version, error.message, extra=facts)
        else:
            tell(events.MODEL_ACTIVATED, name, version, f"is active again, as the engines of {active} keep dying")
