"""Probation, rollback and quarantine with real engine processes and a store in memory."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from models_rig import DEADLINE, Rig

from appliance import limits
from appliance.daemon import way_back
from appliance.errors import ApplianceError, FailedPrecondition, InvalidArgument, NotFound
from appliance.questions import AskAdd
from appliance.types import ModelState
from appliance.versions import BadVersion, Desired, Measured, OnProbation

READY, STORED = ModelState.READY, ModelState.STORED


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "probation_look_ms", 20)


def bad(rig: Rig) -> dict[str, str]:
    """What is quarantined, and why."""
    return {b.version: b.reason for b in rig.sync.desired.quarantined}


def now(rig: Rig) -> tuple[str, tuple[str, ...], str, bool]:
    """Active, beside, previous, and whether that is on probation: as it is written down."""
    desired = rig.sync.desired
    return desired.active, desired.beside, desired.previous, desired.probation is not None


async def refused(rig: Rig, reason: str, name: str = "m") -> str:
    with pytest.raises(ApplianceError) as caught:
        await rig.models.roll_back(name, lambda _: None)
    assert caught.value.reason == reason
    return caught.value.message


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_by_hand(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0")
        answer = await rig.models.roll_back("m", lambda _: None)
        assert answer.model.version == "1.0.0"
        assert now(rig) == ("1.0.0", (), "", False)
        assert (rig.state("1.0.0"), rig.state("2.0.0")) == (READY, STORED)
        assert bad(rig) == {"2.0.0": "an operator rolled it back"}
        assert "nothing was active before version '1.0.0'" in await refused(rig, "NO_PREVIOUS")


def test_a_quarantined_version_is_activated_only_by_force(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0")
        await rig.models.roll_back("m", lambda _: None)
        for again in (rig.activate("2.0.0"), rig.activate("2.0.0", 60.0), rig.add("2.0.0")):
            with pytest.raises(FailedPrecondition) as caught:
                await again
            assert caught.value.reason == "VERSION_QUARANTINED"
            assert "an operator rolled it back" in caught.value.message
            assert "appliance models activate m 2.0.0 --force" in caught.value.message
        assert (now(rig)[0], rig.state("2.0.0")) == ("1.0.0", STORED)
        await rig.add("2.0.0", activate=False)  # it may be looked at
        await rig.activate("2.0.0", force=True)
        assert (now(rig)[0], bad(rig)) == ("2.0.0", {})
        await rig.activate("1.0.0")
        await rig.activate("2.0.0")


def test_other_files_under_a_quarantined_version_are_another_matter(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0")
        rig.models.inventory.wish(Desired("m", "1.0.0", (), "", None, (BadVersion("2.0.0", "sha256:other", "x"),)))
        await rig.activate("2.0.0")


def test_no_way_back(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        with pytest.raises(NotFound):
            await rig.models.roll_back("nobody", lambda _: None)
        await refused(rig, "NO_PREVIOUS")
        await rig.add("2.0.0")
        rig.forbidden.add("1.0.0")
        assert "not allowed" in await refused(rig, "PREVIOUS_NOT_ALLOWED")
        rig.forbidden.clear()
        await rig.models.remove("m", "1.0.0")
        assert "add it again" in await refused(rig, "PREVIOUS_GONE")
        assert (now(rig)[0], rig.state("2.0.0"), bad(rig)) == ("2.0.0", READY, {})
        await rig.models.deactivate("m", "", lambda _: None)
        await refused(rig, "NOT_ACTIVE")


def test_a_previous_version_that_does_not_load_leaves_all_as_it_is(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0")
        rig.version("1.0.0", refuse={})
        await refused(rig, "MODEL_CORRUPT")
        assert (now(rig)[:1], rig.state("2.0.0"), bad(rig)) == (("2.0.0",), READY, {})


# --- probation -------------------------------------------------------------------------------------------------------


def test_the_previous_version_stays_loaded_until_the_new_one_is_committed(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=1.0)
        assert now(rig) == ("2.0.0", ("1.0.0",), "1.0.0", True)
        assert (rig.state("1.0.0"), rig.state("2.0.0")) == (READY, READY)
        await rig.until(lambda: not now(rig)[3])
        assert now(rig) == ("2.0.0", (), "1.0.0", False)
        await rig.until(lambda: rig.state("1.0.0") is STORED)
        assert bad(rig) == {}


def test_the_first_version_of_all_has_nothing_to_be_compared_with(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.models.deactivate("m", "", lambda _: None)
        await rig.add("2.0.0", probation=60.0)
        assert now(rig) == ("2.0.0", (), "", False)


@pytest.mark.parametrize("deaths_allowed", [0, 5])
def test_an_engine_that_dies_on_probation_is_rolled_back(
    rig, deaths_allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, whether it would be started again or not."""
    monkeypatch.setattr(limits, "restarts_in_window_max", deaths_allowed)

    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        pids = [keeper.pids for model, keeper, _ in rig.models.rows() if keeper and model.version == "1.0.0"]
        rig.kill("2.0.0")
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        await rig.until(lambda: rig.state("2.0.0") is STORED)
        assert now(rig) == ("1.0.0", (), "", False)
        assert "its engine died" in bad(rig)["2.0.0"]
        after = [keeper.pids for model, keeper, _ in rig.models.rows() if keeper and model.version == "1.0.0"]
        assert after == pids  # it was there all the time


def test_without_room_the_previous_version_is_loaded_when_it_is_needed(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(way_back, "room_for_previous", lambda: False)

    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        assert now(rig) == ("2.0.0", (), "1.0.0", True)
        assert rig.state("1.0.0") is STORED
        with pytest.raises(FailedPrecondition, match=r"comes back if version '2\.0\.0'"):
            await rig.models.remove("m", "1.0.0")
        rig.kill("2.0.0")
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        assert rig.state("1.0.0") is READY


def test_a_restart_of_the_daemon_goes_on_with_the_probation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "restarts_in_window_max", 0)

    async def scene() -> None:
        rig = Rig(tmp_path, "2.0.0", "1.0.0")
        trial = OnProbation(2**53, 60.0, Measured(1_000, 0))
        rig.sync.desired = Desired("m", "2.0.0", ("1.0.0",), "1.0.0", trial)
        await asyncio.wait_for(rig.start(), DEADLINE)
        assert now(rig)[3]
        rig.kill("2.0.0")
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        assert list(bad(rig)) == ["2.0.0"]
        await rig.models.stop()

    asyncio.run(scene())


def test_a_version_that_is_gone_after_a_restart_is_rolled_back(tmp_path: Path) -> None:
    async def scene() -> None:
        rig = Rig(tmp_path, "1.0.0")
        rig.sync.desired = Desired("m", "2.0.0", ("1.0.0",), "1.0.0", OnProbation(2**53, 60.0))
        await asyncio.wait_for(rig.start(), DEADLINE)
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        assert bad(rig) == {"2.0.0": "its engine could not be started"}
        await rig.models.stop()

    asyncio.run(scene())


def test_an_update_takes_the_place_of_a_version_that_is_damaged(tmp_path: Path) -> None:
    """The store leaves out what it can't read; what should run still names it."""
    rig = Rig(tmp_path, "1.0.0")
    del rig.sync.stored["1.0.0"]

    async def scene() -> None:
        await rig.start()
        await rig.add("2.0.0", probation=60.0)
        assert (rig.sync.desired.active, rig.sync.desired.probation) == ("2.0.0", None)
        assert rig.state("2.0.0") is ModelState.READY
        await rig.models.stop()

    asyncio.run(scene())


def test_a_rollback_that_is_not_allowed_leaves_the_new_version(rig, caplog: pytest.LogCaptureFixture) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        rig.forbidden.add("1.0.0")
        rig.kill("2.0.0")
        await rig.until(lambda: not now(rig)[3])
        assert now(rig) == ("2.0.0", (), "1.0.0", False)
        assert "[model.rollback_failed]" in caplog.text


def test_an_operator_who_activates_another_version_ends_the_probation(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        await rig.add("3.0.0")
        assert now(rig) == ("3.0.0", (), "1.0.0", False)
        assert [rig.state(v) for v in ("1.0.0", "2.0.0", "3.0.0")] == [STORED, STORED, READY]
        await rig.models.roll_back("m", lambda _: None)
        assert (now(rig)[0], list(bad(rig))) == ("1.0.0", ["3.0.0"])


def test_an_update_over_one_on_probation_is_compared_with_the_last_proven_one(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        await rig.add("3.0.0", probation=60.0)
        assert now(rig) == ("3.0.0", ("1.0.0",), "1.0.0", True)
        assert [rig.state(v) for v in ("1.0.0", "2.0.0", "3.0.0")] == [READY, STORED, READY]
        await rig.activate("1.0.0", probation=60.0)  # the way back needs none
        assert now(rig) == ("1.0.0", (), "3.0.0", False)


def test_deactivating_ends_the_probation_and_unloads_both(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        await rig.models.deactivate("m", "2.0.0", lambda _: None)
        assert now(rig) == ("", (), "1.0.0", False)
        assert (rig.state("1.0.0"), rig.state("2.0.0")) == (STORED, STORED)


def test_a_rollback_waits_for_a_change_that_is_under_way(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        adding = asyncio.create_task(rig.add("3.0.0", load_delay_ms=500, refuse={}))
        await rig.until(lambda: "3.0.0" in rig.sync.stored)
        rig.kill("2.0.0")
        await asyncio.sleep(0.1)
        assert now(rig)[0] == "2.0.0"
        with pytest.raises(InvalidArgument):
            await adding
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        assert list(bad(rig)) == ["2.0.0"]


# --- updates that do not even come up --------------------------------------------------------------------------------


def test_an_update_that_does_not_load_is_quarantined(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        rig.sync.stored["2.0.0"] = broken = rig.version("2.0.0", refuse={"message": "no model at all"})
        rig.models.inventory.put(broken)
        with pytest.raises(InvalidArgument):
            await rig.activate("2.0.0")
        assert bad(rig) == {}  # an operator who tries is told, and that is that
        with pytest.raises(InvalidArgument):
            await rig.activate("2.0.0", probation=60.0)
        assert "no model at all" in bad(rig)["2.0.0"]
        assert now(rig) == ("1.0.0", (), "", False)


def test_adding_again_what_is_on_probation_leaves_it_so(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        before = rig.sync.desired
        await rig.models.add(AskAdd("2.0.0", probation_seconds=30.0), lambda _: None)
        assert rig.sync.desired == before


def test_a_kill_of_the_previous_version_is_no_fault_of_the_new_one(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "restarts_in_window_max", 5)

    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.add("2.0.0", probation=60.0)
        group = next(keeper for model, keeper, _ in rig.models.rows() if keeper and model.version == "1.0.0")
        os.kill(group.pids[0], signal.SIGKILL)
        await rig.until(lambda: group.restarts == 1 and group.state is READY)
        assert now(rig) == ("2.0.0", ("1.0.0",), "1.0.0", True)
