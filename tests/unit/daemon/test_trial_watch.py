"""The watch of a probation: engines whose counts the test writes, and a clock that it moves."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from appliance import events, limits
from appliance.clock import FakeClock
from appliance.daemon.events import tell
from appliance.daemon.probation import Seen, Verdict
from appliance.daemon.trial_watch import TrialWatch, room_for_previous
from appliance.errors import ApplianceError, FailedPrecondition, Unavailable
from appliance.osutil.memory_room import Room
from appliance.types import ModelState
from appliance.versions import Desired, Measured, OnProbation

GOOD = Measured(1_000, 0, ((20, 1_000),))
GIB = 1024**3


class World:
    """What the watch sees, and what it did."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.seen = Seen(Measured(), 0, ModelState.READY)
        self.done: list[tuple[str, str]] = []
        self.errors: list[ApplianceError | OSError] = []
        acts = {Verdict.COMMIT: self.act("commit"), Verdict.ROLL_BACK: self.act("roll back")}
        self.watch = TrialWatch(lambda _name, _version: self.seen, acts, self.act("give up"), self.clock)

    def act(self, what: str) -> Callable[[str, str, str], Coroutine[Any, Any, None]]:
        async def done(_name: str, version: str, _reason: str) -> None:
            if what != "give up" and self.errors:
                raise self.errors.pop(0)
            self.done.append((what, version))
            self.watch.follow(Desired("m", version))

        return done

    def begin(self, seconds: float = 60.0, version: str = "2", until_ms: int = 0) -> None:
        until_ms = until_ms or self.clock.wall_ns() // 1_000_000 + int(seconds * 1000)
        self.watch.follow(Desired("m", version, (), "1", OnProbation(until_ms, seconds, GOOD)))

    async def look(self, faults: int = 0, calls: int = 0, restarts: int = 0) -> None:
        self.seen = Seen(Measured(calls, faults), restarts, ModelState.READY)
        self.watch.nudge("m", "2")
        for _ in range(10):
            await asyncio.sleep(0)


def scene(play: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[pytest.MonkeyPatch], None]:
    """A test in which the watch looks only when it is nudged."""

    def run(monkeypatch: pytest.MonkeyPatch) -> None:
        async def with_world() -> None:
            world = World()
            await play(world)
            world.watch.stop()

        monkeypatch.setattr(limits, "probation_look_ms", 3_600_000)
        asyncio.run(with_world())

    return run


@scene
async def test_it_commits(world: World) -> None:
    world.begin()
    await world.look(calls=100)
    world.clock.advance(59.9)
    await world.look(calls=200)
    assert world.done == []
    world.clock.advance(0.2)
    await world.look(calls=300)
    assert world.done == [("commit", "2")]
    assert not world.watch.nudge("m", "2")


@scene
async def test_it_rolls_back(world: World) -> None:
    world.begin()
    await world.look(calls=30, faults=6)
    assert world.done == [("roll back", "2")]
    await world.look(calls=60, faults=12)
    assert len(world.done) == 1


@scene
async def test_only_what_came_since_the_switch_counts(world: World) -> None:
    """It ran beside the active version before, and failed there: its engine has died since, too."""
    world.seen = Seen(Measured(100, 50), 3, ModelState.READY)
    world.begin()
    await world.look(calls=100, faults=50, restarts=3)
    assert world.done == []
    await world.look(calls=100, faults=50, restarts=4)
    assert world.done == [("roll back", "2")]


@scene
async def test_the_same_probation_goes_on_and_another_begins_anew(world: World) -> None:
    until_ms = world.clock.wall_ns() // 1_000_000 + 60_000
    world.begin(until_ms=until_ms)
    world.clock.advance(50)
    world.seen = Seen(Measured(100, 50), 0, ModelState.READY)
    world.begin(until_ms=until_ms)  # something else of the model's was written down
    await world.look(calls=100, faults=50)
    assert world.done == [("roll back", "2")]
    world.begin(version="3")
    assert not world.watch.nudge("m", "2")
    assert world.watch.nudge("m", "3")
    world.watch.follow(Desired("m", "3"))
    assert not world.watch.nudge("m", "3")


@scene
async def test_what_is_left_of_the_time_is_taken_up(world: World) -> None:
    """As after a restart; and a wall clock that was set back gives it no more than the whole time."""
    wall_ms = world.clock.wall_ns() // 1_000_000
    world.begin(seconds=60.0, until_ms=wall_ms + 5_000)
    world.clock.advance(5.1)
    await world.look()
    assert world.done == [("commit", "2")]
    world.begin(seconds=60.0, until_ms=wall_ms + 10**9)
    world.clock.advance(60.1)
    await world.look()
    assert world.done == [("commit", "2")] * 2
    world.begin(seconds=60.0, until_ms=1)  # it ended while the daemon was down
    await world.look()
    assert world.done == [("commit", "2")] * 3


@scene
async def test_what_cannot_be_done_now_is_tried_again(world: World) -> None:
    world.errors = [Unavailable("the store restarts"), OSError(28, "no room")]
    world.begin()
    for _ in range(2):
        await world.look(calls=30, faults=6)
        assert world.done == []
    await world.look(calls=30, faults=6)
    assert world.done == [("roll back", "2")]


@scene
async def test_what_can_never_be_done_is_given_up(world: World) -> None:
    world.errors = [FailedPrecondition("it was removed")]
    world.begin()
    await world.look(calls=30, faults=6)
    assert world.done == [("give up", "2")]
    await world.look(calls=60, faults=12)
    assert len(world.done) == 1


def test_it_looks_by_itself_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "probation_look_ms", 1)

    async def play() -> None:
        world = World()
        world.begin()
        world.clock.advance(61)
        deadline = asyncio.get_running_loop().time() + 20
        while not world.done and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.001)
        assert world.done == [("commit", "2")]

    asyncio.run(play())


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (None, True),
        (Room(8 * GIB, 4 * GIB), True),
        (Room(8 * GIB, GIB // 2), True),
        (Room(8 * GIB, GIB // 2 - 1), False),
        (Room(64 * GIB, 2 * GIB), False),
    ],
)
def test_room_for_the_previous_version(room: Room | None, expected: bool) -> None:
    assert room_for_previous(lambda: room) is expected


def test_events_have_names_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    tell(events.MODEL_ROLLBACK_FAILED, "m", "2", "should be rolled back")
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == "m:2 should be rolled back [model.rollback_failed]"
    assert vars(record)["facts"] == events.MODEL_ROLLBACK_FAILED.of(model="m", version="2")["facts"]
