"""The update loop, step by step: what was released and brought is simulated, store and memory are real."""

import select
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest

from appliance.clock import FakeClock
from appliance.config import RegistryConfig
from appliance.control import Updated
from appliance.errors import Cancelled
from appliance.questions import Desired
from appliance.registry.loop.errands import Brought
from appliance.registry.loop.memory import Memory
from appliance.registry.loop.updates import Updates
from appliance.registry.release import Release
from appliance.registry.sources.failures import Unreachable
from appliance.registry.trust.verified import RoleState, Verified
from appliance.store import manifest
from appliance.store.store import Store
from appliance.sync_questions import AskUpdateEnded
from tests.support import model_folders as folders

DEADLINE = 20.0
DAY = 86_400


class Floor:
    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def now_s(self) -> int:
        return self._clock.wall_ns() // 10**9


class Trust:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = Floor(clock)


class Headquarters:
    """Errands whose registry is a store of its own; ``fail``: what the next errands raise, in turn."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self._folder = folder
        self._clock = clock
        self.shop = Store(folder / "headquarters", clock)
        self.box = Store(folder / "box", clock)
        self.trust = Trust(clock)
        self.releases: list[Release] = []
        self.fail: list[BaseException] = []
        self.asked = 0
        self.brought: list[str] = []
        self.cancelled = False
        self.done_bytes = self.total_bytes = 0
        self.fresh_s = DAY

    def release(self, version: str, counter: int, toml: str = "", **more: object) -> Release:
        root = self._folder / f"folder-{version}-{counter}"
        model = self.shop.add(folders.make(root, toml or folders.onnx_toml(version)))
        size = len(self.shop.blobs.path(model.digest[7:]).read_bytes())
        made = Release("press", version, "r", model.digest, size, model.size_bytes, counter, 1, **more)  # type: ignore[arg-type]
        self.releases.append(made)
        return made

    def refresh(self, wanted: Callable[[str], bool]) -> Verified:
        self.asked += 1
        self._fail()
        expires = self.trust.clock.now_s() + self.fresh_s
        roles = tuple(RoleState(name, 1, expires) for name in ("root", "timestamp", "snapshot", "targets"))
        return Verified(tuple(r for r in self.releases if wanted(r.line)), ("press",), roles)

    def bring(self, release: Release) -> Brought:
        self._fail()
        self.brought.append(release.version)
        data = self.shop.blobs.path(release.digest[7:]).read_bytes()
        parsed = manifest.parse(data)
        for blob in (parsed.config, *parsed.layers):
            self.box.blobs.put(self.shop.blobs.path(blob.hex).read_bytes())
        return Brought(release, data)

    def _fail(self) -> None:
        if self.fail:
            raise self.fail.pop(0)

    def pinned(self) -> frozenset[str]:
        return frozenset()

    def adopted(self) -> None: ...

    def cancel(self) -> None:
        self.cancelled = True


class Box:
    def __init__(self, folder: Path, **config: object) -> None:
        self.clock = FakeClock(monotonic_ns=10**12)
        self.headquarters = Headquarters(folder, self.clock)
        self.store = self.headquarters.box
        self.memory = Memory(folder / "box")
        self.sent: list[Updated] = []
        settings = msgspec.structs.replace(RegistryConfig(url="layout:/x", poll_seconds=100.0), **config)
        self.updates = Updates(
            settings, self.store, self.memory, self.headquarters, self.clock, self._send, lambda low, high: (low + high) / 2
        )  # type: ignore[arg-type]  # stands for Errands  # fmt: skip

    def _send(self, message: msgspec.Struct) -> None:
        assert isinstance(message, Updated)
        self.sent.append(message)

    def turn(self) -> None:
        """One step, and what the courier does for it."""
        self.updates.turn()
        if self.updates.busy:
            assert select.select([self.updates.fd], [], [], DEADLINE)[0]

    def turns(self) -> None:
        """Until it waits for the time, or for the supervisor."""
        for _ in range(10):
            self.turn()

    def runs(self, version: str, **more: object) -> None:
        """The supervisor made it run."""
        self.store.set_desired(Desired("press", version, **more))  # type: ignore[arg-type]
        self.updates.ended(AskUpdateEnded("press", version))

    @property
    def line(self) -> tuple[str, str, str]:
        (found,) = self.updates.status().lines
        return found.version, found.state, found.reason


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_release_is_brought_adopted_and_handed_on(box: Box) -> None:
    release = box.headquarters.release("1.0.0", 1)
    box.turns()
    (sent,) = box.sent
    assert (sent.model.version, sent.model.digest, sent.activate, sent.probation_seconds) == (
        "1.0.0",
        release.digest,
        True,
        600.0,
    )
    assert box.line[:2] == ("1.0.0", "installing")
    assert box.updates.status().doing == "activating press 1.0.0"
    box.runs("1.0.0")
    assert box.line[:2] == ("1.0.0", "installed")
    assert box.memory.counter("press") == 1
    assert box.updates.status().doing == ""
    box.turns()
    assert box.headquarters.asked == 1


def test_polls_come_in_time_and_an_idle_one_does_nothing(box: Box) -> None:
    box.headquarters.release("1.0.0", 1)
    box.turns()
    box.runs("1.0.0")
    for number in range(2, 5):
        assert (box.updates.due_ns - box.clock.monotonic_ns()) / 1e9 == pytest.approx(100)
        box.clock.advance(100)
        box.turns()
        assert box.headquarters.asked == number
    assert box.headquarters.brought == ["1.0.0"]
    assert len(box.sent) == 1


def test_the_next_release_and_one_that_is_refused_here(box: Box) -> None:
    box.headquarters.release("1.0.0", 1)
    box.turns()
    box.runs("1.0.0")
    box.headquarters.release("2.0.0", 2)
    box.clock.advance(100)
    box.turns()
    box.updates.ended(AskUpdateEnded("press", "2.0.0", "FAILED_PRECONDITION", "GOLDEN_FAILED", "a golden test failed"))
    assert box.line == ("2.0.0", "refused", "a golden test failed")
    for _ in range(3):
        box.clock.advance(100)
        box.turns()
    assert len(box.sent) == 2
    # An operator may want it tried again.
    box.updates.wish("now")
    box.turns()
    assert len(box.sent) == 3


def test_what_was_adopted_before_a_death_is_only_handed_on(box: Box, tmp_path: Path) -> None:
    box.headquarters.release("1.0.0", 1)
    box.turns()
    again = Updates(
        RegistryConfig(url="layout:/x"), box.store, box.memory, box.headquarters, box.clock, box._send, lambda low, _: low
    )  # type: ignore[arg-type]  # fmt: skip
    box.updates = again
    box.turns()
    assert box.headquarters.brought == ["1.0.0"]
    assert [sent.model.version for sent in box.sent] == ["1.0.0", "1.0.0"]
    # What is told of something else is not taken for this.
    again.ended(AskUpdateEnded("other", "1.0.0"))
    again.ended(AskUpdateEnded("press", "0.9.0"))
    assert again.status().doing
    box.runs("1.0.0")
    assert not again.status().doing


@pytest.mark.parametrize("error", [Unreachable("no route"), OSError(5, "the disk"), RuntimeError("a bug")])
def test_a_failed_poll_is_told_and_tried_again_ever_later(box: Box, error: BaseException) -> None:
    box.headquarters.release("1.0.0", 1)
    for seconds in (30, 60, 100, 100):
        box.headquarters.fail.append(error)
        box.turns()
        assert (box.updates.due_ns - box.clock.monotonic_ns()) / 1e9 == pytest.approx(seconds)
        assert box.updates.status().error
        box.clock.advance(seconds)
    box.turns()
    assert box.updates.status().error == ""
    assert len(box.sent) == 1


def test_a_broken_line_in_the_middle_goes_on_at_the_next_poll(box: Box) -> None:
    box.headquarters.release("1.0.0", 1)
    box.turn()
    box.headquarters.fail.append(Unreachable("the line broke"))
    box.turns()
    assert box.updates.status().error == "the line broke"
    box.clock.advance(30)
    box.turns()
    assert len(box.sent) == 1


def test_an_artefact_that_is_no_model_is_refused_and_the_rest_goes_on(box: Box) -> None:
    release = box.headquarters.release("1.0.0", 1)
    box.headquarters.releases[0] = msgspec.structs.replace(release, version="1.0.1")
    box.turns()
    assert box.sent == []
    version, state, reason = box.line
    assert (version, state) == ("1.0.1", "refused")
    assert "by its own model.toml" in reason
    assert box.store.versions() == ()


def test_a_pause_stops_what_is_under_way_and_holds(box: Box, tmp_path: Path) -> None:
    box.headquarters.release("1.0.0", 1)
    box.updates.turn()
    box.updates.wish("pause")
    assert box.headquarters.cancelled
    box.headquarters.fail.append(Cancelled("stopped"))
    box.clock.advance(1000)
    box.turns()
    assert box.sent == []
    assert box.updates.status().paused
    assert box.updates.status().error == ""
    assert Memory(tmp_path / "box").paused
    box.headquarters.fail.clear()
    box.updates.wish("resume")
    box.turns()
    assert len(box.sent) == 1


def test_stored_only(tmp_path: Path) -> None:
    box = Box(tmp_path, activate=False)
    box.headquarters.release("1.0.0", 1)
    box.turns()
    assert box.sent[0].activate is False
    box.updates.ended(AskUpdateEnded("press", "1.0.0"))
    assert box.line == ("1.0.0", "waiting", "registry.activate is false: activate it by hand")
    box.clock.advance(100)
    box.turns()
    assert len(box.sent) == 1


def test_quarantine_and_counters_hold(box: Box) -> None:
    from appliance.versions import BadVersion

    bad = box.headquarters.release("2.0.0", 2)
    box.store.set_desired(Desired("press", "", quarantined=(BadVersion("2.0.0", bad.digest, "worse"),)))
    box.memory.ran("press", 1)
    box.headquarters.release("0.5.0", 0)
    box.turns()
    assert box.sent == []
    assert box.line[:2] == ("", "waiting")


def test_metadata_that_expire_are_an_alarm(box: Box) -> None:
    box.turns()
    assert box.updates.status().alarms == ()
    box.headquarters.fresh_s = 3600
    box.clock.advance(100)
    box.turns()
    assert "expire soon" in box.updates.status().alarms[0]


def test_outside_of_a_window_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.registry.sync.windows.machine_zone", lambda: timezone.utc)
    box = Box(tmp_path, windows=("22:00-05:00",), poll_seconds=3 * 3600.0)
    box.clock.advance(10 * 3600)
    now = datetime.fromtimestamp(box.clock.wall_ns() / 1e9, timezone.utc)
    assert 5 <= now.hour < 22  # the fake clock's
    box.headquarters.release("1.0.0", 1)
    for _ in range(6):
        box.turns()
        if box.sent:
            break
        assert box.line[1] == "waiting"
        assert "maintenance window opens at" in box.line[2]
        box.clock.advance(max(1.0, (box.updates.due_ns - box.clock.monotonic_ns()) / 1e9))
    else:
        pytest.fail("the window never opened")
    # At the opening, not at the poll after it.
    opened = datetime.fromtimestamp(box.clock.wall_ns() / 1e9, timezone.utc)
    assert (opened.hour, opened.minute) in ((22, 0), (22, 1))
