"""Supervision of one engine, with real processes that run the fake engine."""

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fake_models import fake_spec, fake_version

from appliance import limits
from appliance.calls import InferCall
from appliance.config import Config
from appliance.control import RouteTable
from appliance.errors import Unavailable
from appliance.model_spec import GoldenTensor, GoldenTest
from appliance.osutil import child
from appliance.tensor_heads import TensorHead
from appliance.types import ModelState
from appliance.worker.engine_keeper import EngineKeeper
from appliance.worker.lease import Lease
from appliance.worker.router import Router

DEADLINE = 20.0
CALL = InferCall(tensors=(TensorHead("x", "FP32", (1,), 4),))
DATA = [b"\0\0\x80?"]


class Kept:
    """A keeper at work, its changes of state as they come, and a router that follows them."""

    def __init__(self, tmp_path: Path, golden: tuple[GoldenTest, ...] = (), **script: Any) -> None:
        model = fake_version(tmp_path / "model", fake_spec("fake", "1.0.0", *golden), **script)
        self.states: list[ModelState] = []
        self.router = Router(100)
        self._epoch = 0
        self._moved = asyncio.Event()
        self.keeper = EngineKeeper(model, tmp_path / "e.sock", Config(), self._changed)

    def _changed(self) -> None:
        self.states.append(self.keeper.state)
        self._epoch += 1
        self.router.apply(RouteTable(self._epoch, (self.keeper.route(active=True),)))
        self._moved.set()

    async def reached(self, state: ModelState) -> None:
        while self.keeper.state is not state:
            self._moved.clear()
            await asyncio.wait_for(self._moved.wait(), DEADLINE)

    async def call(self) -> bytes:
        def exchange() -> bytes:
            with Lease(self.router, "fake") as lease:
                return bytes(lease.exchange(CALL, DATA)[1])

        return await asyncio.wait_for(asyncio.to_thread(exchange), DEADLINE)


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., None]:
    """Runs ``scenario(kept)`` beside the keeper, and drains it in the end."""

    def run(scenario: Callable[[Kept], Coroutine[Any, Any, None]], trial: bool = False, **how: Any) -> None:
        async def main() -> None:
            kept = Kept(tmp_path, **how)
            task = asyncio.create_task(kept.keeper.run(trial))
            await asyncio.wait_for(kept.keeper.settled(), DEADLINE)
            await scenario(kept)
            if kept.keeper.state in (ModelState.READY, ModelState.RESTARTING):
                kept.keeper.drain()
            await asyncio.wait_for(task, DEADLINE)

        asyncio.run(main())

    return run


def test_it_loads_serves_and_drains(keep) -> None:
    seen: list[Kept] = []

    async def scenario(kept: Kept) -> None:
        seen.append(kept)
        assert await kept.call() == DATA[0]
        assert kept.keeper.pid

    keep(scenario)
    assert seen[0].states == [ModelState.READY, ModelState.DRAINING, ModelState.STORED]
    assert not Path(seen[0].keeper.socket.path).exists()


def test_after_a_kill_calls_wait_for_the_next_engine(keep) -> None:
    async def scenario(kept: Kept) -> None:
        os.kill(kept.keeper.pid, signal.SIGKILL)
        await kept.reached(ModelState.RESTARTING)
        assert await kept.call() == DATA[0]
        assert kept.keeper.state is ModelState.READY
        assert kept.keeper.restarts == 1

    keep(scenario)


def test_a_call_in_flight_is_lost_with_its_engine(keep) -> None:
    async def scenario(kept: Kept) -> None:
        with pytest.raises(Unavailable) as caught:
            await kept.call()
        assert caught.value.reason == "ENGINE_DIED"
        assert kept.router.take_counts()[1] == {"fake:1.0.0": 1}

    keep(scenario, crash_on="?")


def test_an_engine_that_keeps_dying_is_quarantined(keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "restart_backoff_ms_max", 20)
    monkeypatch.setattr(limits, "restarts_in_window_max", 2)

    async def scenario(kept: Kept) -> None:
        for _ in range(3):
            with pytest.raises(Unavailable):
                await kept.call()
        await kept.reached(ModelState.QUARANTINED)
        assert "SIGABRT" in kept.keeper.reason
        with pytest.raises(Unavailable, match="kept dying"):
            await kept.call()

    keep(scenario, crash_on="?")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"refuse": {"reason": "MODEL_CORRUPT", "message": "no model at all"}}, "no model at all"),
        (
            {
                "golden": (
                    GoldenTest(
                        name="doubles",
                        inputs={"x": GoldenTensor(datatype="FP32", data=[1.0])},
                        outputs={"out_x": GoldenTensor(datatype="FP32", data=[2.0])},
                    ),
                )
            },
            "doubles",
        ),
    ],
    ids=["refused load", "failed golden test"],
)
def test_a_trial_that_is_refused_is_not_tried_again(keep, how: dict[str, Any], words: str) -> None:
    async def scenario(kept: Kept) -> None:
        assert kept.keeper.state is ModelState.FAILED
        assert words in kept.keeper.reason
        with pytest.raises(Unavailable, match=words):
            await kept.call()

    keep(scenario, trial=True, **how)


def test_a_version_that_has_served_before_is_tried_again_when_its_load_fails(keep, monkeypatch) -> None:
    """What is wrong may pass; when it doesn't, the budget ends it, and the reason is still the engine's own."""
    monkeypatch.setattr(limits, "restart_backoff_ms_max", 20)
    monkeypatch.setattr(limits, "restarts_in_window_max", 2)

    async def scenario(kept: Kept) -> None:
        assert kept.keeper.state is ModelState.QUARANTINED
        assert kept.keeper.restarts == 2
        assert kept.keeper.reason == "no memory"

    keep(scenario, refuse={"reason": "MODEL_MEMORY", "message": "no memory"})


def test_golden_tests_that_pass_are_counted(keep) -> None:
    golden = GoldenTest(
        name="echo",
        inputs={"x": GoldenTensor(datatype="FP32", data=[1.0])},
        outputs={"out_x": GoldenTensor(datatype="FP32", data=[1.0])},
    )

    async def scenario(kept: Kept) -> None:
        assert kept.keeper.golden_passed == 1

    keep(scenario, trial=True, golden=(golden,))


def test_a_death_in_a_trial_is_final(keep) -> None:
    async def scenario(kept: Kept) -> None:
        assert kept.keeper.state is ModelState.QUARANTINED
        assert "SIGABRT" in kept.keeper.reason

    keep(scenario, trial=True, crash_on_load=True)


def test_waiting_calls_are_let_go_when_the_restart_takes_too_long(keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "engine_hold_ms_max", 0)
    monkeypatch.setattr(limits, "beat_interval_ms", 50)

    async def scenario(kept: Kept) -> None:
        os.kill(kept.keeper.pid, signal.SIGKILL)
        await kept.reached(ModelState.RESTARTING)
        with pytest.raises(Unavailable):
            await kept.call()

    keep(scenario, load_delay_ms=1000)


def test_an_engine_that_hangs_is_killed(keep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(limits, "beat_interval_ms", 50)

    async def scenario(kept: Kept) -> None:
        object.__setattr__(kept.keeper, "_config", Config(engines=type(Config().engines)(step_seconds_max=0.3)))
        with pytest.raises(Unavailable):
            await kept.call()
        await kept.reached(ModelState.RESTARTING)

    keep(scenario, hang_on="?")


def test_a_machine_that_cannot_start_an_engine_now_is_asked_again(keep, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn, tries = child.spawn, []

    def spawn_later(*arguments: Any, **more: Any) -> child.Child:
        tries.append(1)
        if len(tries) == 2:
            raise BlockingIOError(errno.EAGAIN, "no process left")
        return spawn(*arguments, **more)

    monkeypatch.setattr(child, "spawn", spawn_later)

    async def scenario(kept: Kept) -> None:
        os.kill(kept.keeper.pid, signal.SIGKILL)
        await kept.reached(ModelState.RESTARTING)
        await kept.reached(ModelState.READY)
        assert await kept.call() == DATA[0]
        assert kept.keeper.restarts == 2

    keep(scenario)


def test_a_trial_that_the_machine_cannot_start_ends(keep, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_spawn(*_arguments: Any, **_more: Any) -> child.Child:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(child, "spawn", no_spawn)

    async def scenario(kept: Kept) -> None:
        assert kept.keeper.state is ModelState.QUARANTINED
        assert "could not be started" in kept.keeper.reason

    keep(scenario, trial=True)
