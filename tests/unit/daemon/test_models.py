"""What the supervisor does with models when changes and deaths meet: real engine processes, a store in memory."""

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from models_rig import DEADLINE, Rig

from appliance.daemon import engines as engines_module
from appliance.errors import FailedPrecondition, InvalidArgument, Unavailable
from appliance.questions import Answer, AskAdd, Desired, Question
from appliance.types import ModelState
from appliance.worker.engine_caches import EngineCaches
from appliance.worker.engine_group import EngineGroup


def test_the_previous_version_comes_back(rig) -> None:
    @rig("2.0.0", "1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.quarantined("2.0.0")
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        assert rig.state("1.0.0") is ModelState.READY
        assert rig.state("2.0.0") is ModelState.QUARANTINED


def test_it_comes_back_after_a_change_that_was_under_way(rig) -> None:
    @rig("2.0.0", "1.0.0")
    async def scene(rig: Rig) -> None:
        adding = asyncio.create_task(rig.add("3.0.0", load_delay_ms=700, refuse={}))
        await rig.until(lambda: "3.0.0" in rig.sync.stored)
        await rig.quarantined("2.0.0")
        assert not adding.done()
        with pytest.raises(InvalidArgument, match="told not to load"):
            await adding
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        assert sorted(rig.sync.stored) == ["1.0.0", "2.0.0"]


def test_an_operator_who_was_faster_is_not_overruled(rig) -> None:
    @rig("2.0.0", "1.0.0")
    async def scene(rig: Rig) -> None:
        adding = asyncio.create_task(rig.add("3.0.0", load_delay_ms=700))
        await rig.until(lambda: "3.0.0" in rig.sync.stored)
        await rig.quarantined("2.0.0")
        await adding
        assert rig.state("1.0.0") is ModelState.STORED
        await rig.models.activate("m", "3.0.0", beside=False, keep_previous=False, tell=lambda _: None)
        assert rig.sync.desired.active == "3.0.0"
        assert rig.state("1.0.0") is ModelState.STORED


def test_two_bad_versions_do_not_take_turns(rig) -> None:
    @rig("2.0.0", "1.0.0")
    async def scene(rig: Rig) -> None:
        await rig.quarantined("2.0.0")
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        await rig.quarantined("1.0.0")
        await asyncio.sleep(0)  # what it would start, it starts at once
        assert rig.state("2.0.0") is ModelState.QUARANTINED
        assert rig.sync.desired.active == "1.0.0"


def test_an_add_during_another_change_is_refused_and_not_kept(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        first = asyncio.create_task(rig.add("2.0.0", load_delay_ms=500))
        await rig.until(lambda: "2.0.0" in rig.sync.stored)
        with pytest.raises(FailedPrecondition) as caught:
            await rig.add("3.0.0")
        assert caught.value.reason == "MODEL_BUSY"
        await first
        assert sorted(rig.sync.stored) == ["1.0.0", "2.0.0"]
        assert rig.sync.desired.active == "2.0.0"
        await rig.add("3.0.0")
        assert rig.sync.desired.active == "3.0.0"


def test_adding_again_what_runs_changes_nothing(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        pids = next(keeper.pids for _, keeper, _ in rig.models.rows() if keeper)
        rig.sync.uploads["1.0.0"] = rig.sync.stored["1.0.0"]
        await rig.models.add(AskAdd("1.0.0"), lambda _: None)
        assert [keeper.pids for _, keeper, _ in rig.models.rows() if keeper] == [pids]


def test_a_store_that_dies_over_the_first_question_is_asked_again(tmp_path: Path) -> None:
    async def scene() -> None:
        rig = Rig(tmp_path, "1.0.0")
        ask, deaths = rig.sync.ask, [1, 1]

        async def dying(question: Question, progress: object = None) -> Answer:
            if deaths:
                deaths.pop()
                raise Unavailable("it died over it", reason="CHILD_DIED")
            return await ask(question, progress)

        rig.sync.ask = dying  # type: ignore[method-assign]  # for this scene
        await asyncio.wait_for(rig.start(), DEADLINE)
        assert rig.state("1.0.0") is ModelState.READY
        await rig.models.stop()

    asyncio.run(scene())


def test_a_load_that_cannot_begin_leaves_nothing_behind(rig, monkeypatch: pytest.MonkeyPatch) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        with monkeypatch.context() as broken:
            broken.setattr("appliance.worker.engine_group.EngineKeeper", _no_socket)
            with pytest.raises(OSError, match="no room"):
                await rig.add("2.0.0")
        assert sorted(rig.sync.stored) == ["1.0.0"]
        await rig.add("2.0.0")
        assert rig.sync.desired.active == "2.0.0"
        assert rig.state("2.0.0") is ModelState.READY


def test_an_engine_that_cannot_even_be_started_does_not_keep_the_others_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start of the daemon: the others run, the status tells why, and an operator may try again."""

    async def scene() -> None:
        rig = Rig(tmp_path, "1.0.0")
        rig.sync.stored["2.0.0"] = rig.version("2.0.0")
        rig.sync.desired = Desired("m", "1.0.0", ("2.0.0",))
        group, made = engines_module.EngineGroup, []

        def group_but_the_first(*arguments: Any, **more: Any) -> EngineGroup:
            made.append(1)
            return _no_socket() if len(made) == 1 else group(*arguments, **more)

        with monkeypatch.context() as broken:
            broken.setattr(engines_module, "EngineGroup", group_but_the_first)
            await asyncio.wait_for(rig.start(), DEADLINE)
        assert (rig.state("1.0.0"), rig.state("2.0.0")) == (ModelState.FAILED, ModelState.READY)
        reason = next(route.reason for model, _, route in rig.models.rows() if model.version == "1.0.0")
        assert reason == "its engine could not be started: no room"
        assert rig.models.missing == ()
        await rig.models.activate("m", "1.0.0", beside=False, keep_previous=False, tell=lambda _: None)
        assert rig.state("1.0.0") is ModelState.READY
        await rig.models.stop()

    asyncio.run(scene())


def test_a_version_with_instances_that_were_given_up_is_mended_by_activating_it(rig) -> None:
    @rig("1.0.0", instances=2)
    async def scene(rig: Rig) -> None:
        group = next(group for _, group, _ in rig.models.rows() if group)
        first, second = group.pids
        os.kill(second, signal.SIGKILL)
        await rig.until(lambda: len(group.pids) == 1)
        await rig.until(lambda: "is quarantined" in group.reason)
        assert rig.state("1.0.0") is ModelState.READY
        await rig.models.activate("m", "1.0.0", beside=False, keep_previous=False, tell=lambda _: None)
        assert group.reason == ""
        assert group.pids[0] == first
        assert len(group.pids) == 2


def test_the_previous_version_comes_back_when_the_last_instance_is_given_up(rig) -> None:
    @rig("2.0.0", "1.0.0", instances=2)
    async def scene(rig: Rig) -> None:
        await rig.quarantined("2.0.0")
        await rig.until(lambda: rig.sync.desired.active == "1.0.0")
        assert rig.state("1.0.0") is ModelState.READY


def test_a_removed_version_takes_what_its_engine_kept_with_it(rig) -> None:
    @rig("1.0.0")
    async def scene(rig: Rig) -> None:
        stale = EngineCaches(rig.config.state_dir).folder("sha256:0")
        await rig.add("2.0.0")
        stale.mkdir()
        await rig.models.remove("m", "1.0.0")
        assert sorted(rig.sync.stored) == ["2.0.0"]
        assert not stale.exists()


def _no_socket(*_arguments: object, **_more: object) -> Any:
    raise OSError(errno.ENOSPC, "no room")
