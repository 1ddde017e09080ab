"""Sticks: imported once, through the same plan, whatever the network, a pause or a window says; and a machine without a network."""

from pathlib import Path

import pytest

from appliance.errors import InvalidArgument, Unavailable
from appliance.registry.sources.failures import Unreachable
from appliance.registry_rules import OFFLINE
from tests.support.update_rig import Box


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


def test_a_machine_without_a_network_turns_for_nothing_until_a_stick_is_brought(tmp_path: Path, stick: Path) -> None:
    box = Box(tmp_path, url=OFFLINE)
    box.headquarters.release("1.0.0", 1)
    box.turns()
    assert box.headquarters.asked == 0
    assert box.updates.due_ns > box.clock.monotonic_ns() + 10**15
    assert box.updates.status().next_ms == 0
    box.updates.wish("now")
    box.turns()
    assert box.headquarters.asked == 0
    box.updates.visit(str(stick))
    assert box.updates.due_ns == 0
    box.turns()
    assert box.headquarters.asks == [str(stick)]
    assert box.updates.status().visiting == str(stick)
    box.runs("1.0.0")
    status = box.updates.status()
    assert (status.visiting, status.polled_ms) == ("", 0)
    assert status.visit is not None
    assert [(line.version, line.state) for line in status.visit.lines] == [("1.0.0", "installed")]
    assert (status.visit.path, status.visit.error) == (str(stick), "")
    assert status.visit.returned == str(stick / "return/1.json")
    assert box.updates.due_ns > box.clock.monotonic_ns() + 10**15


def test_neither_a_pause_nor_a_window_holds_a_stick_up(tmp_path: Path, stick: Path) -> None:
    box = Box(tmp_path, windows=("sat 03:00-03:01",))
    box.updates.wish("pause")
    box.headquarters.release("1.0.0", 1)
    box.updates.visit(str(stick))
    box.turns()
    assert len(box.sent) == 1
    box.runs("1.0.0")
    assert box.updates.status().paused
    box.headquarters.release("2.0.0", 2)
    box.turns()
    assert len(box.sent) == 1


def test_after_a_stick_the_registry_is_asked_again(tmp_path: Path, stick: Path) -> None:
    box = Box(tmp_path)
    box.installs("1.0.0", 1)
    box.updates.visit(str(stick))
    box.turns()
    box.wait()
    box.turns()
    assert box.headquarters.asks == ["registry", str(stick), "registry"]


def test_a_stick_that_cannot_be_read_is_told_and_the_polls_go_on(tmp_path: Path, stick: Path) -> None:
    box = Box(tmp_path)
    box.headquarters.release("1.0.0", 1)
    box.headquarters.fail = [Unreachable("the stick was pulled out")]
    box.updates.visit(str(stick))
    box.turn()
    box.updates.turn()
    visit = box.updates.status().visit
    assert visit is not None
    assert visit.error == "the stick was pulled out"
    assert box.updates.status().error == ""
    box.updates.wish("now")
    box.turns()
    assert len(box.sent) == 1


def test_a_stick_that_is_gone_gets_nothing_back_and_that_is_said(tmp_path: Path, stick: Path) -> None:
    box = Box(tmp_path, url=OFFLINE)
    box.updates.visit(str(stick))
    stick.rmdir()
    box.turns()
    visit = box.updates.status().visit
    assert visit is not None
    assert (visit.returned, visit.not_returned) == ("", "it cannot be written to: No such file or directory")


def test_one_stick_at_a_time_and_only_by_an_absolute_path(tmp_path: Path, stick: Path) -> None:
    box = Box(tmp_path, url=OFFLINE)
    with pytest.raises(InvalidArgument, match="absolute"):
        box.updates.visit("media/stick")
    box.updates.visit(str(stick))
    with pytest.raises(Unavailable, match="is being imported"):
        box.updates.visit(str(stick))


def test_a_stick_is_taken_before_what_comes_over_the_network(tmp_path: Path, stick: Path) -> None:
    box = Box(tmp_path)
    box.headquarters.release("1.0.0", 1)
    box.turn()
    box.updates.visit(str(stick))
    assert box.headquarters.cancelled
