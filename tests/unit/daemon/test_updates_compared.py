"""Updates that are compared before they take over: real engine processes, front-ends that a test speaks for."""

import asyncio

import pytest
from comparison_rig import RULE, STORED, active_route, count, quiet, refused
from models_rig import Rig

from appliance.comparison import Mode, Plan
from appliance.control import Updated
from appliance.daemon import models
from appliance.daemon.updates import Updates
from appliance.errors import Code
from appliance.questions import Answer, Question
from appliance.sync_questions import AskUpdateEnded


class Wants:
    """The rig's sync process, as one that has stored updates and remembers how they ended."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.ended: list[AskUpdateEnded] = []
        self._ask = rig.sync.ask
        rig.sync.ask = self.ask  # type: ignore[method-assign]
        self.updates = Updates(rig.models, rig.sync, lambda: asyncio.sleep(0))  # type: ignore[arg-type]

    async def ask(self, question: Question, progress: object = None) -> Answer:
        if isinstance(question, AskUpdateEnded):
            self.ended.append(question)
        return await self._ask(question, progress)

    def update(self, version: str, *plans: Plan, **script: object) -> None:
        model = self.rig.version(version, **script)
        self.rig.sync.stored[version] = model
        self.updates.hear(Updated(model, True, 60.0, plans))


def compared(rig: Rig, mode: Mode) -> bool:
    beside = active_route(rig).beside
    return beside is not None and beside.mode is mode


def test_an_update_is_a_shadow_then_a_canary_then_active_on_probation(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        plans = Plan(Mode.SHADOW, 50.0, 10, 0.0, True), Plan(Mode.CANARY, 5.0, 10, 0.0, True)
        wants.update("2.0.0", *plans)
        for plan in plans:
            await rig.until(lambda mode=plan.mode: compared(rig, mode))
            assert not wants.ended
            wants.update("2.0.0", *plans)  # said again: it is under way
            count(rig, calls=10)
        await rig.until(lambda: bool(wants.ended))
        assert wants.ended == [AskUpdateEnded("m", "2.0.0")]
        assert (rig.sync.desired.active, rig.sync.desired.previous) == ("2.0.0", "1.0.0")
        assert rig.sync.desired.probation is not None


def test_a_bad_update_never_takes_over(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        wants.update("2.0.0", RULE)
        await rig.until(lambda: compared(rig, Mode.CANARY))
        count(rig, failed=10)
        await rig.until(lambda: bool(wants.ended))
        assert wants.ended[0].reason == "CANDIDATE_WORSE"
        assert "could not answer" in wants.ended[0].message
        assert rig.sync.desired.active == "1.0.0"
        # Before the sync process hears of it: what it does next must not be to bring it again.
        assert [bad.version for bad in rig.sync.desired.quarantined] == ["2.0.0"]
        assert rig.state("2.0.0") is STORED


def test_an_update_that_does_not_load_is_quarantined(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        wants.update("2.0.0", RULE, refuse={})
        await rig.until(lambda: bool(wants.ended))
        assert wants.ended[0].code
        assert [bad.version for bad in rig.sync.desired.quarantined] == ["2.0.0"]


def test_an_operator_ends_an_updates_comparison(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        wants = Wants(rig)
        wants.update("2.0.0", RULE)
        await rig.until(lambda: compared(rig, Mode.CANARY))
        await rig.models.comparisons.end("m", False, quiet)
        await rig.until(lambda: bool(wants.ended))
        assert wants.ended[0].reason == "COMPARISON_ENDED"
        assert not rig.sync.desired.quarantined


def test_the_first_version_has_nothing_to_be_compared_with(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.models.deactivate("m", "1.0.0", quiet)
        wants = Wants(rig)
        wants.update("2.0.0", RULE)
        await rig.until(lambda: bool(wants.ended))
        assert (wants.ended[0].code, rig.sync.desired.active) == ("", "2.0.0")


def test_both_must_fit_into_memory(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "room_beside", lambda _bytes: False)

    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", activate=False)
        error = await refused(rig.models.comparisons.begin("m", "2.0.0", RULE, quiet))
        assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "NO_ROOM_BESIDE")
        assert active_route(rig).beside is None
        # An update is not kept back for that: it has its probation.
        wants = Wants(rig)
        wants.update("2.0.0", RULE)
        await rig.until(lambda: bool(wants.ended))
        assert (wants.ended[0].code, rig.sync.desired.active) == ("", "2.0.0")
