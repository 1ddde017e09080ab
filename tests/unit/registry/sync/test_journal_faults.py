"""Power cuts and full disks at every fault point of every transition: the state before or the one after, and on it goes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.osutil import durable, faults
from appliance.registry.sync import states
from appliance.registry.sync.journal import Journal
from appliance.registry.sync.states import ENDS, TABLE, Event, State
from tests.support.sync_facts import NOW, release

TWO = release("2.0.0", 2)
POINTS = [
    f"sync.{file}.{step}" for file in ("journal", "journal_copy") for step in ("write", "fsync", "rename", "folder")
]
# How each state is reached.
WAYS: dict[State, tuple[Event, ...]] = {State.DOWNLOADING: ()}
while len(WAYS) < len(State):
    for (before, event), after in TABLE.items():
        if before in WAYS and after not in WAYS:
            WAYS[after] = (*WAYS[before], event)
# What the rest of the world does next, so that the update comes to its end.
NEXT: dict[State, Event] = {
    State.DOWNLOADING: Event.FETCHED,
    State.VERIFYING: Event.ADOPTED,
    State.STAGED: Event.ACTIVATE,
    State.ACTIVATING: Event.SWITCHED,
    State.PROBATION: Event.SETTLED,
    State.ROLLING_BACK: Event.BACK,
    State.ROLLED_BACK: Event.CONDEMNED,
    State.FAILED: Event.RETRY,
}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def in_state(folder: Path, state: State) -> None:
    journal = Journal(folder)
    journal.begin(TWO, NOW)
    for event in WAYS[state]:
        journal.tell("press", event, NOW)


def dies_at(folder: Path, event: Event, point: str) -> bool:
    """Whether a process that makes this transition was killed there."""
    child = os.fork()
    if child == 0:
        try:
            journal = Journal(folder)
            faults.arm(f"{point}=kill")
            journal.tell("press", event, NOW)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def to_its_end(folder: Path) -> State:
    """What every restart does: look at the state, and do what it asks for."""
    for _ in range(20):
        journal = Journal(folder)
        state = journal.updates["press"].state
        if state in ENDS:
            return state
        journal.tell("press", NEXT[state], NOW)
    raise AssertionError(f"no end was reached: {state}")


@pytest.mark.parametrize(("before", "event"), TABLE, ids=lambda each: each.value)
def test_a_kill_at_every_point_leaves_the_state_before_or_after(before: State, event: Event, tmp_path: Path) -> None:
    left = set()
    for number, point in enumerate(POINTS):
        folder = tmp_path / str(number)
        in_state(folder, before)
        device = Journal(folder).device
        assert dies_at(folder, event, point), point
        again = Journal(folder)
        found = again.updates["press"].state
        assert found in (before, TABLE[before, event]), point
        assert again.device == device
        assert (TWO.digest in again.quarantined) is (found in states.BAD), point
        left.add(found)
        assert to_its_end(folder) in ENDS
        (leftover,) = [[p.name for p in (folder / "state").iterdir() if not durable.is_temp(p.name)]]
        assert sorted(leftover) == ["sync.copy.json", "sync.json"]
    assert left == {before, TABLE[before, event]}


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_full_or_broken_disk_is_told_or_got_around(point: str, action: str, tmp_path: Path) -> None:
    in_state(tmp_path, State.VERIFYING)
    journal = Journal(tmp_path)
    faults.arm(f"{point}={action}")
    told = False
    try:
        journal.tell("press", Event.ADOPTED, NOW)
    except OSError:
        told = True
    faults.arm("")
    # The object and the disk say the same, whatever that is.
    assert journal.updates == Journal(tmp_path).updates
    assert told is not point.startswith("sync.journal_copy")
    if not told:
        assert journal.updates["press"].state is State.STAGED
    elif journal.updates["press"].state is State.VERIFYING:
        journal.tell("press", Event.ADOPTED, NOW)
    assert Journal(tmp_path).updates["press"].state is State.STAGED


@pytest.mark.parametrize("point", POINTS)
def test_a_first_start_that_dies_is_made_again(point: str, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            faults.arm(f"{point}=kill")
            Journal(tmp_path)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    device = Journal(tmp_path).device
    assert device
    assert Journal(tmp_path).device == device
