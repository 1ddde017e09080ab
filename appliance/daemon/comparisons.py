"""Comparisons of candidates with active versions: begun, watched, and ended by rule, by hand, or as something else changed.

Which verdict when: comparison_rule.py.

A candidate is loaded, but is not part of Desired: after a restart of the daemon the active version runs alone, and what
an operator had begun begins again. An update's comparison is begun again by whoever waits for it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from appliance import events, limits
from appliance.clock import Clock, SystemClock
from appliance.comparison import (
    AskBeginComparison,
    AskComparison,
    AskEndComparison,
    Beside,
    Comparison,
    Outcome,
    Plan,
    Tally,
    add,
)
from appliance.daemon import comparison_file, comparison_refusals, refusals
from appliance.daemon.comparison_rule import is_over, summary
from appliance.daemon.comparison_run import Acts, Run, Say
from appliance.daemon.engines import Engines
from appliance.daemon.events import tell
from appliance.daemon.inventory import Inventory
from appliance.daemon.probation import Judgement, Verdict
from appliance.daemon.switch import Switch
from appliance.errors import ApplianceError
from appliance.questions import Progress
from appliance.versions import Desired, ModelVersion

_log = logging.getLogger(__name__)


class Comparisons:
    """One at a time of each model. Used from the event loop only."""

    def __init__(
        self,
        switch: Switch,
        inventory: Inventory,
        engines: Engines,
        acts: Acts,
        state: Path,
        clock: Clock | None = None,
    ) -> None:
        self._switch = switch
        self._inventory = inventory
        self._engines = engines
        self._acts = acts
        self._state = state
        self._clock = clock or SystemClock()
        self._known: dict[str, Comparison] = {}
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()

    # --- start and stop ----------------------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Learns of earlier ones; begins again, in the background, what an operator had begun."""
        for record in await asyncio.to_thread(comparison_file.read, self._state):
            self._known[record.name] = record
            if record.outcome is Outcome.RUNNING:
                record.outcome, record.reason = Outcome.INTERRUPTED, "the daemon was started anew"
                record.ended_ms = self._now_ms()
                if not record.waited:
                    self._later(self._begin_again(record))

    async def _begin_again(self, record: Comparison) -> None:
        try:
            await self._engines.settled()
            await self._switch.changes.idle(record.name)
            await self.begin(record.name, record.version, record.plan, lambda _: None)
        except ApplianceError as error:
            facts = events.MODEL_COMPARISON_LOST.of(record.name, record.version, error.reason)
            _log.warning("%s:%s is not compared any more: %s", record.name, record.version, error.message, extra=facts)

    def stop(self) -> None:
        """Watches no more; what runs is begun again at the next start."""
        for task in [*self._tasks, *(run.task for run in self._runs.values() if run.task)]:
            task.cancel()

    async def answer(self, question: AskBeginComparison | AskEndComparison | AskComparison, say: Say) -> Comparison:
        """What an operator asks; raises what ``begin``, ``end`` and ``show`` raise."""
        if isinstance(question, AskBeginComparison):
            return await self.begin(question.name, question.version, question.plan, say)
        if isinstance(question, AskEndComparison):
            return await self.end(question.name, question.promote, say)
        return self.show(question.name)

    # --- what is asked -----------------------------------------------------------------------------------------------

    async def begin(self, name: str, version: str, plan: Plan, say: Say, waited: bool = False) -> Comparison:
        """Loads ``version`` and gives it its share of the active version's calls.

        Raises NotFound, FailedPrecondition where it can't be compared, ResourceExhausted where both don't fit, and the
        engine's refusals.
        """
        model = self._inventory.find(name, version)
        with self._switch.changes.only(name):
            self._check(model)
            await self._engines.load(model, say)
            record = Comparison(name, version, self._inventory.active_version(name), plan, self._number())
            record.waited = waited
            run = self._runs[name] = Run(record, model, self._acts.see, self._clock.monotonic_ns())
            self._known[name] = record
            self._engines.besides[name] = Beside(record.began_ms, version, plan.mode, plan.percent)
            self._engines.publish()
        await self._save()
        words = f"is compared with {record.active}: {plan.mode.value}, {plan.percent:g} % of its calls"
        tell(events.MODEL_COMPARISON_BEGAN, name, version, words)
        say(Progress(f"{name} {version} {words}"))
        run.task = asyncio.create_task(self._watch(run))
        return record

    def _check(self, model: ModelVersion) -> None:
        name, version = model.name, model.version
        active = self._inventory.active_version(name)
        if name in self._runs:
            raise comparison_refusals.running(name, self._runs[name].record.version)
        if active in ("", version):
            raise comparison_refusals.nothing_to_compare(name, version, active)
        bad = self._inventory.bad(model)
        if bad is not None:
            raise refusals.quarantined(name, bad)
        if self._engines.find(name, version) is None and not self._acts.room(model.size_bytes):
            raise comparison_refusals.no_room(name, version, active)

    async def end(self, name: str, promote: bool, say: Say) -> Comparison:
        """Ends it by hand. Raises FailedPrecondition when none runs."""
        run = self._runs.get(name)
        if run is None:
            raise comparison_refusals.none_running(name)
        if promote:
            await self._activate(run, "an operator promoted it", say)
        else:
            await self._close(run, Outcome.ABANDONED, "an operator ended it")
        return run.record

    async def outcome(self, record: Comparison) -> Comparison:
        """A comparison that was begun, once it has ended."""
        run = self._runs.get(record.name)
        if run is not None and run.record is record:
            await run.ended.wait()
        return record

    def show(self, name: str) -> Comparison:
        """The one that runs, or else the last one. Raises NotFound where there was none."""
        self._inventory.newest(name)
        record = self._known.get(name)
        if record is None:
            raise comparison_refusals.never(name)
        return record

    def candidate(self, name: str) -> str:
        """The version that is being compared; "" none."""
        run = self._runs.get(name)
        return run.record.version if run else ""

    # --- what is heard -----------------------------------------------------------------------------------------------

    def counted(self, tallies: tuple[Tally, ...]) -> None:
        """What a front-end saw since its last beat."""
        for tally in tallies:
            for run in self._runs.values():
                if run.record.began_ms == tally.number:
                    add(run.record.tally, tally)

    def nudge(self, model: ModelVersion) -> None:
        """Something became of a version's engines."""
        run = self._runs.get(model.name)
        if run is not None and run.record.version == model.version:
            run.nudged.set()

    def follow(self, desired: Desired) -> None:
        """Another version is the active one: there is nothing to compare any more."""
        run = self._runs.get(desired.name)
        if run is None or run.promoting or desired.active == run.record.active:
            return
        if desired.active == run.record.version:
            self._later(self._close(run, Outcome.PROMOTED, "it was activated"))
        else:
            self._later(self._close(run, Outcome.INTERRUPTED, "the active version changed"))

    # --- the watch ---------------------------------------------------------------------------------------------------

    async def _watch(self, run: Run) -> None:
        while self._runs.get(run.record.name) is run:
            run.nudged.clear()
            judgement = run.look(self._acts.see, self._clock.monotonic_ns())
            if await self._follows(run, judgement):
                return
            if self._clock.monotonic_ns() - run.saved_ns > limits.comparison_save_s * 1_000_000_000:
                run.saved_ns = self._clock.monotonic_ns()
                await self._save()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(run.nudged.wait(), limits.probation_look_ms / 1000)

    async def _follows(self, run: Run, judgement: Judgement) -> bool:
        """Whether the verdict ended it. Without a rule the end of its time does, and nothing follows from it."""
        record, plan = run.record, run.record.plan
        record.reason = judgement.reason
        if judgement.verdict is Verdict.WATCHING:
            return False
        if plan.by_rule and judgement.verdict is Verdict.ROLL_BACK:
            await self._close(run, Outcome.CONDEMNED, judgement.reason)
            return True
        if plan.by_rule:
            await self._promote(run, judgement.reason)
            return True
        if is_over(plan, record.tally, run.seconds(self._clock.monotonic_ns())):
            await self._close(run, Outcome.ABANDONED, f"its time is over, and an operator decides; {judgement.reason}")
            return True
        return False

    async def _promote(self, run: Run, reason: str) -> None:
        record = run.record
        if record.waited:
            await self._close(run, Outcome.PROMOTED, reason, unload=False)
            return
        await self._switch.changes.idle(record.name)
        if self._runs.get(record.name) is not run:
            return  # an operator was faster
        try:
            await self._activate(run, reason, lambda _: None)
        except ApplianceError as error:
            await self._close(run, Outcome.ABANDONED, f"it could not be activated: {error.message}")

    async def _activate(self, run: Run, reason: str, say: Say) -> None:
        record = run.record
        run.promoting = True
        try:
            await self._acts.promote(record.name, record.version, record.plan.probation_seconds, say)
        finally:
            run.promoting = False
        await self._close(run, Outcome.PROMOTED, reason)

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _close(self, run: Run, outcome: Outcome, reason: str, unload: bool = True) -> None:
        """The first reason counts. The candidate is unloaded unless it is wanted, or ``unload`` is False."""
        record = run.record
        if self._runs.get(record.name) is not run:
            return
        del self._runs[record.name]
        record.outcome, record.reason, record.ended_ms = outcome, reason, self._now_ms()
        self._engines.besides.pop(record.name, None)
        self._engines.publish()
        tell(events.MODEL_COMPARISON_ENDED, record.name, record.version, summary(record))
        await self._save()
        if outcome is Outcome.CONDEMNED:
            try:
                await self._acts.condemn(run.model, reason)
            except (ApplianceError, OSError) as error:
                facts = events.MODEL_COMPARISON_LOST.of(record.name, record.version)
                _log.warning("%s:%s could not be quarantined: %s", record.name, record.version, error, extra=facts)
        if unload:
            await self.unload(run.model)
        run.ended.set()
        run.nudged.set()

    async def unload(self, model: ModelVersion) -> None:
        """Unloads a candidate that is not to run otherwise."""
        await self._switch.changes.idle(model.name)
        with self._switch.changes.only(model.name):
            if not self._inventory.is_wanted(model) and self.candidate(model.name) != model.version:
                await self._engines.unload(model.name, model.version)

    async def _save(self) -> None:
        """What can't be written is shown all the same, until the daemon ends."""
        records = list(self._known.values())
        async with self._writing:
            try:
                await asyncio.to_thread(comparison_file.write, self._state, records)
            except OSError as error:
                facts = events.MODEL_COMPARISON_LOST.of()
                _log.warning("comparisons could not be written down: %s", error.strerror or error, extra=facts)

    def _number(self) -> int:
        """When it began, in milliseconds, which also is its number: no two begin in the same one."""
        return max([self._now_ms(), *(record.began_ms + 1 for record in self._known.values())])

    def _now_ms(self) -> int:
        return self._clock.wall_ns() // 1_000_000

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
