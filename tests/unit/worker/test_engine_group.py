"""Several instances of one version, with real processes that run the fake engine."""

import asyncio
import errno
import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Coroutine, Iterator
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
from appliance.worker.engine_group import EngineGroup
from appliance.worker.lease import Lease
from appliance.worker.router import Router

DEADLINE = 30.0
CALL = InferCall(tensors=(TensorHead("x", "FP32", (1,), 4),))
DATA = [b"\0\0\x80?"]
ECHOES = GoldenTest(
    name="echo",
    inputs={"x": GoldenTensor(datatype="FP32", data=[1.0])},
    outputs={"out_x": GoldenTensor(datatype="FP32", data=[1.0])},
)
DOUBLES = GoldenTest(
    name="doubles",
    inputs={"x": GoldenTensor(datatype="FP32", data=[1.0])},
    outputs={"out_x": GoldenTensor(datatype="FP32", data=[2.0])},
)


class Kept:
    """A group at work, and a router that follows it."""

    def __init__(self, folder: Path, instances: int = 2, golden: tuple[GoldenTest, ...] = (), **script: Any) -> None:
        model = fake_version(folder / "model", fake_spec("fake", "1.0.0", *golden, instances=instances), **script)
        self.router = Router(100)
        self.states: list[ModelState] = []
        self._epoch = 0
        self._moved = asyncio.Event()
        numbers = itertools.count()
        self.group = EngineGroup(model, lambda: folder / f"{next(numbers)}.sock", Config(), self._changed)

    def _changed(self) -> None:
        self.states.append(self.group.state)
        self._epoch += 1
        self.router.apply(RouteTable(self._epoch, (self.group.route(active=True),)))
        self._moved.set()

    def states_of_members(self) -> list[ModelState]:
        return [member.state for member in self.group._members]

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._moved.clear()
            await asyncio.wait_for(self._moved.wait(), DEADLINE)

    def exchange(self, instance: str = "", router: Router | None = None) -> str:
        """One call; the instance that it was sent to."""
        with Lease(router or self.router, "fake", instance=instance) as lease:
            assert bytes(lease.exchange(CALL, DATA)[1]) == DATA[0]
            return lease._backend.pool.path

    async def call(self, **how: Any) -> str:
        return await asyncio.wait_for(asyncio.to_thread(lambda: self.exchange(**how)), DEADLINE)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Short enough for unix sockets."""
    with tempfile.TemporaryDirectory(prefix="ia-") as name:
        yield Path(name)


@pytest.fixture
def keep(short_folder: Path) -> Callable[..., None]:
    """Runs ``scenario(kept)`` beside the group, and drains it in the end."""

    def run(scenario: Callable[[Kept], Coroutine[Any, Any, None]], trial: bool = False, **how: Any) -> None:
        async def main() -> None:
            kept = Kept(short_folder, **how)
            task = asyncio.create_task(kept.group.run(trial))
            await asyncio.wait_for(kept.group.settled(), DEADLINE)
            await scenario(kept)
            kept.group.drain(1.0)
            await asyncio.wait_for(kept.group.gone(), DEADLINE)
            await asyncio.wait_for(task, DEADLINE)
            assert kept.group.pids == ()
            assert list(short_folder.glob("*.sock")) == []

        asyncio.run(main())

    return run


@pytest.fixture(autouse=True)
def restarts_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "restart_backoff_ms_max", 20)


def test_two_instances_share_the_calls(keep) -> None:
    async def scenario(kept: Kept) -> None:
        group = kept.group
        assert group.state is ModelState.READY
        assert len(set(group.pids)) == 2
        route = group.route(active=True)
        assert {route.socket, *route.more_sockets} == group.sockets
        assert {await kept.call() for _ in range(4)} == group.sockets
        await asyncio.wait_for(_counted(group, 4), DEADLINE)

    keep(scenario)


async def _counted(group: EngineGroup, calls: int) -> None:
    """Engines tell what they have done with their beats."""
    while group.stats.success_count < calls:
        await asyncio.sleep(0.02)
    assert group.stats.success_count == calls
    assert all(member.stats.success_count for member in group._members)


def test_golden_tests_run_in_the_first_instance_only_and_the_others_wait_for_it(keep) -> None:
    async def scenario(kept: Kept) -> None:
        assert [member.golden_passed for member in kept.group._members] == [1, 0, 0]
        assert kept.group.golden_passed == 1
        # From the first READY on there is never a state in which no call is taken.
        assert set(kept.states) == {ModelState.READY}

    keep(scenario, trial=True, golden=(ECHOES,), instances=3)


def test_the_others_are_not_even_started_when_the_first_fails_its_golden_test(keep) -> None:
    async def scenario(kept: Kept) -> None:
        assert kept.group.state is ModelState.FAILED
        assert "doubles" in kept.group.reason
        assert kept.group.refusal is not None
        assert kept.states_of_members() == [ModelState.FAILED, ModelState.STORED]
        with pytest.raises(Unavailable, match="doubles"):
            await kept.call()

    keep(scenario, trial=True, golden=(DOUBLES,))


def test_a_trial_fails_with_any_of_its_instances(keep, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_after_the_first(monkeypatch)

    async def scenario(kept: Kept) -> None:
        assert kept.group.state is ModelState.QUARANTINED
        assert kept.group.reason.startswith("instance 2 of 2: its engine died")
        assert kept.group.pids == ()

    keep(scenario, trial=True)


def refuse_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second process on none comes to its first message."""
    spawn, started = child.spawn, []

    def spawn_and_break(module: str, *arguments: Any, **more: Any) -> child.Child:
        started.append(module)
        if len(started) > 1:
            return spawn("appliance.no_such_module", *arguments, **more)
        return spawn(module, *arguments, **more)

    monkeypatch.setattr(child, "spawn", spawn_and_break)


def test_one_that_dies_is_out_until_it_is_back_and_the_other_serves(keep) -> None:
    async def scenario(kept: Kept) -> None:
        group = kept.group
        first, second = (member.socket.path for member in group._members)
        os.kill(group.pids[0], signal.SIGKILL)
        await kept.until(lambda: group._members[0].state is ModelState.RESTARTING)
        assert group.state is ModelState.READY
        assert group.route(active=True).socket == second
        assert "instance 1 of 2 is restarting: its engine died (signal 9" in group.reason
        assert {await kept.call() for _ in range(4)} == {second}
        await kept.until(lambda: group._members[0].state is ModelState.READY)
        assert {await kept.call() for _ in range(4)} == {first, second}
        assert (group.restarts, group.reason) == (1, "")

    keep(scenario, load_delay_ms=300)


def test_calls_of_a_front_end_that_knows_nothing_yet_go_to_the_other_one_at_once(keep) -> None:
    """Not only when the dead one is back, and none is lost: they are handed over unread."""

    async def scenario(kept: Kept) -> None:
        group = kept.group
        first = group._members[0]
        late = Router(100)
        late.apply(RouteTable(1, (group.route(active=True),)))
        os.kill(first.pid, signal.SIGKILL)
        await kept.until(lambda: first.state is ModelState.RESTARTING)
        calls = [kept.call(router=late, instance=first.socket.path) for _ in range(5)]
        assert await asyncio.gather(*calls) == [first.socket.path] * 5
        assert first.state is ModelState.RESTARTING
        # Back, it takes its own calls again.
        await kept.until(lambda: first.state is ModelState.READY)
        os.kill(group.pids[1], signal.SIGKILL)
        assert await kept.call(instance=first.socket.path) == first.socket.path

    keep(scenario, load_delay_ms=1000)


def test_while_all_are_down_calls_wait_for_one_of_them(keep) -> None:
    async def scenario(kept: Kept) -> None:
        for pid in kept.group.pids:
            os.kill(pid, signal.SIGKILL)
        await kept.until(lambda: kept.group.state is ModelState.RESTARTING)
        assert await kept.call() in kept.group.sockets
        assert kept.group.restarts == 2

    keep(scenario)


def test_it_is_quarantined_when_the_last_instance_is_and_mended_while_one_serves(keep, monkeypatch) -> None:
    monkeypatch.setattr(limits, "restarts_in_window_max", 0)

    async def scenario(kept: Kept) -> None:
        group = kept.group
        os.kill(group.pids[1], signal.SIGKILL)
        await kept.until(lambda: ModelState.QUARANTINED in kept.states_of_members())
        assert group.state is ModelState.READY
        assert "instance 2 of 2 is quarantined" in group.reason
        await asyncio.wait_for(group.mend(), DEADLINE)
        assert kept.states_of_members() == [ModelState.READY, ModelState.READY]
        assert {await kept.call() for _ in range(4)} == group.sockets
        for pid in group.pids:
            os.kill(pid, signal.SIGKILL)
        await kept.until(lambda: group.state is ModelState.QUARANTINED)
        assert group.route(active=True).socket == ""

    keep(scenario)


def test_a_drain_while_the_first_one_loads_starts_no_other(short_folder: Path) -> None:
    async def main() -> None:
        kept = Kept(short_folder, load_delay_ms=60_000)
        task = asyncio.create_task(kept.group.run(trial=False))
        while not kept.group.pids:
            await asyncio.sleep(0.01)
        kept.group.drain(0.0)
        await asyncio.wait_for(kept.group.gone(), DEADLINE)
        await task
        assert kept.group.state is ModelState.STORED

    asyncio.run(main())


def test_sockets_of_a_group_that_cannot_have_them_all_are_given_up(short_folder: Path) -> None:
    spec = fake_spec(instances=3)
    paths = iter([short_folder / "0.sock", short_folder / "none" / "1.sock"])
    with pytest.raises(OSError, match=os.strerror(errno.ENOENT)):
        EngineGroup(fake_version(short_folder / "model", spec), lambda: next(paths), Config(), lambda: None)
    assert list(short_folder.glob("*.sock")) == []
