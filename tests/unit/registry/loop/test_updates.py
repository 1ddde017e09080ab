"""The update loop, step by step: what was released and brought is simulated, store and journal are real."""

import errno
import re
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from appliance import events, limits
from appliance.control import Unneeded, Updated
from appliance.errors import Cancelled
from appliance.events.kind import Kind
from appliance.osutil import faults
from appliance.questions import Desired
from appliance.registry.sources.failures import Malformed, Unreachable
from appliance.registry.sync.states import State
from appliance.store import disk, manifest
from appliance.sync_questions import AskUpdateEnded
from appliance.versions import BadVersion, OnProbation
from tests.support.update_rig import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_release_is_brought_adopted_and_handed_on(box: Box) -> None:
    release = box.headquarters.release("1.0.0", 1)
    box.turns()
    (sent,) = box.sent
    assert isinstance(sent, Updated)
    assert (sent.model.version, sent.model.digest, sent.activate, sent.probation_seconds) == (
        "1.0.0",
        release.digest,
        True,
        600.0,
    )
    assert sent.model.brought
    assert box.line[:2] == ("1.0.0", "installing")
    assert box.updates.status().doing == "activating press 1.0.0"
    assert box.state is State.ACTIVATING
    box.runs("1.0.0")
    assert box.line[:2] == ("1.0.0", "installed")
    assert box.state is State.COMMITTED
    assert box.journal.counter("press") == 1
    assert box.updates.status().doing == ""
    box.turns()
    assert box.headquarters.asked == 1


def test_polls_come_at_this_boxs_place_and_an_idle_one_does_nothing(box: Box) -> None:
    box.installs("1.0.0", 1)
    assert 10 <= box.wait() <= 100
    box.turns()
    for number in range(3, 6):
        assert box.wait() == pytest.approx(100, abs=0.1)
        box.turns()
        assert box.headquarters.asked == number
    assert box.headquarters.brought == ["1.0.0"]
    assert len(box.sent) == 1


def test_one_that_did_not_start_is_tried_again_later_or_when_an_operator_says_so(box: Box) -> None:
    box.installs("1.0.0", 1)
    box.headquarters.release("2.0.0", 2)
    box.updates.wish("now")
    box.turns()
    box.updates.ended(AskUpdateEnded("press", "2.0.0", "RESOURCE_EXHAUSTED", "NO_MEMORY", "no memory for it"))
    assert (box.state, box.line[:2]) == (State.FAILED, ("2.0.0", "failed"))
    assert "no memory for it" in box.line[2]
    failed_ns = box.clock.monotonic_ns()
    while len(box.sent) == 2:
        box.wait()
        box.turns()
    assert 60 <= (box.clock.monotonic_ns() - failed_ns) / 1e9 < 62
    box.updates.ended(AskUpdateEnded("press", "2.0.0", "RESOURCE_EXHAUSTED", "NO_MEMORY", "no memory for it"))
    box.updates.wish("now")
    box.turns()
    assert len(box.sent) == 4
    assert box.headquarters.brought == ["1.0.0", "2.0.0"]


def test_one_that_failed_its_golden_tests_is_never_tried_again(box: Box) -> None:
    box.installs("1.0.0", 1)
    bad = box.headquarters.release("2.0.0", 2)
    box.updates.wish("now")
    box.turns()
    box.store.set_desired(Desired("press", "1.0.0", quarantined=(BadVersion("2.0.0", bad.digest, "a test failed"),)))
    box.updates.ended(AskUpdateEnded("press", "2.0.0", "FAILED_PRECONDITION", "GOLDEN_FAILED", "a test failed"))
    assert box.state is State.QUARANTINED
    assert box.line[:2] == ("1.0.0", "installed")
    assert "not 2.0.0: it is quarantined here: a test failed" in box.line[2]
    box.updates.wish("now")
    box.turns()
    assert len(box.sent) == 2
    # An operator who insists has it run, and with that out of quarantine.
    box.store.set_desired(Desired("press", "2.0.0"))
    box.updates.wish("now")
    box.turns()
    assert box.line[:2] == ("2.0.0", "installed")
    assert box.journal.quarantine == ()


def test_on_probation_until_it_has_settled_or_gone_back(box: Box) -> None:
    box.installs("1.0.0", 1)
    bad = box.headquarters.release("2.0.0", 2)
    box.updates.wish("now")
    box.turns()
    box.runs("2.0.0", previous="1.0.0", probation=OnProbation(1, 600.0))
    assert box.state is State.PROBATION
    box.store.set_desired(Desired("press", "1.0.0", quarantined=(BadVersion("2.0.0", bad.digest, "slower"),)))
    box.wait()
    box.turns()
    assert (box.state, box.journal.quarantined) == (State.QUARANTINED, {bad.digest})
    assert box.line[:2] == ("1.0.0", "installed")
    box.headquarters.release("3.0.0", 3)
    box.updates.wish("now")
    box.turns()
    box.runs("3.0.0", probation=OnProbation(1, 600.0))
    # The next release doesn't wait for the end of a probation.
    box.headquarters.release("4.0.0", 4)
    box.updates.wish("now")
    box.turns()
    box.runs("4.0.0")
    assert box.state is State.COMMITTED


def test_an_end_that_cannot_be_written_down_holds_nothing_up(box: Box) -> None:
    box.headquarters.release("1.0.0", 1)
    box.turns()
    box.store.set_desired(Desired("press", "1.0.0"))
    faults.arm("sync.journal.write=enospc")
    box.updates.ended(AskUpdateEnded("press", "1.0.0"))
    faults.arm("")
    assert box.updates.status().doing == ""
    assert box.updates.status().error
    box.wait()
    box.turns()
    assert (box.state, box.line[1]) == (State.COMMITTED, "installed")


def test_what_a_death_left_goes_on_at_once_and_nothing_is_fetched_twice(box: Box) -> None:
    box.headquarters.release("1.0.0", 1)
    box.turns()
    box.restart()
    assert box.state is State.ACTIVATING
    assert box.updates.due_ns <= box.clock.monotonic_ns()
    box.turns()
    assert box.headquarters.brought == ["1.0.0"]
    assert [sent.model.version for sent in box.sent if isinstance(sent, Updated)] == ["1.0.0", "1.0.0"]
    # What is told of something else is not taken for this.
    box.updates.ended(AskUpdateEnded("other", "1.0.0"))
    box.updates.ended(AskUpdateEnded("press", "0.9.0"))
    assert box.updates.status().doing
    box.runs("1.0.0")
    assert not box.updates.status().doing


def test_what_has_come_of_an_update_is_no_garbage_until_it_is_given_up(box: Box) -> None:
    box.headquarters.release("1.0.0", 1)
    box.turn()
    box.turn()
    box.headquarters.fail = [Unreachable("the line broke")]
    box.store.blobs.put(b"of nothing")
    box.turn()
    assert box.state is State.DOWNLOADING
    assert box.journal.pinned
    box.restart()
    (needed, *_) = box.journal.pinned
    box.store.blobs.put(box.headquarters.shop.blobs.path(needed[7:]).read_bytes())
    box.store.sweep()
    assert box.store.blobs.size(needed[7:]) >= 0
    assert box.store.blobs.size(sha256(b"of nothing").hexdigest()) == -1
    # The release is withdrawn: nothing of it is needed any more.
    box.headquarters.releases.clear()
    box.headquarters.fail.clear()
    box.turns()
    assert box.state is State.CANCELLED
    box.store.sweep()
    assert box.store.blobs.size(needed[7:]) == -1


@pytest.mark.parametrize(
    ("error", "told", "kind"),
    [
        (Unreachable("no route"), "no route", events.REGISTRY_UNREACHABLE),
        (OSError(errno.ENOSPC, ""), "the disk that holds the models is full: .*or make room", events.DISK_SHORT),
        (OSError(errno.EROFS, ""), "takes nothing: Read-only file system", events.DISK_SHORT),
        (RuntimeError("a bug"), "the sync process failed; the daemon's log says why", events.UPDATE_FAILED),
    ],
)
def test_a_failed_poll_is_told_and_tried_again_ever_later(
    box: Box, error: BaseException, told: str, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    box.headquarters.release("1.0.0", 1)
    for seconds in (30, 60, 100, 100):
        box.headquarters.fail.append(error)
        box.turns()
        assert box.wait() == pytest.approx(seconds, abs=0.1)
        assert re.search(told, box.updates.status().error)
    assert {getattr(r, "facts", {}).get("event") for r in caplog.records if r.levelname == "ERROR"} == {kind.name}
    box.turns()
    assert box.updates.status().error == ""
    assert len(box.sent) == 1


def test_a_broken_line_in_the_middle_goes_on_at_the_next_poll(box: Box) -> None:
    box.headquarters.release("1.0.0", 1)
    box.turn()
    box.headquarters.fail.append(Unreachable("the line broke"))
    box.turns()
    assert box.updates.status().error == "the line broke"
    box.wait()
    box.turns()
    assert len(box.sent) == 1


def test_one_artefact_that_cannot_be_fetched_holds_up_no_other_line(box: Box) -> None:
    first = box.headquarters.release("1.0.0", 1)
    box.headquarters.releases.insert(0, msgspec.structs.replace(first, line="alloy", digest=f"sha256:{7:064x}"))
    box.turn()
    box.headquarters.fail.append(Malformed("its manifest is another one"))
    box.turns()
    assert [sent.model.name for sent in box.sent if isinstance(sent, Updated)] == ["press"]
    assert box.journal.updates["alloy"].state is State.FAILED
    box.runs("1.0.0")
    lines = {line.line: line for line in box.updates.status().lines}
    assert (lines["press"].state, lines["alloy"].state) == ("installed", "failed")
    assert "its manifest is another one" in lines["alloy"].reason
    assert box.updates.status().error == ""


def test_an_artefact_that_is_no_model_is_refused_until_an_operator_wants_it_tried(box: Box) -> None:
    release = box.headquarters.release("1.0.0", 1)
    box.headquarters.releases[0] = msgspec.structs.replace(release, version="1.0.1")
    box.turns()
    assert box.sent == []
    version, state, reason = box.line
    assert (version, state) == ("1.0.1", "refused")
    assert "by its own model.toml" in reason
    assert box.store.versions() == ()
    box.wait()
    box.turns()
    assert len(box.headquarters.brought) == 1
    box.restart()
    box.updates.wish("now")
    box.turns()
    assert len(box.headquarters.brought) == 2


def test_a_pause_stops_what_is_under_way_and_holds(box: Box) -> None:
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
    box.restart()
    assert box.updates.status().paused
    assert box.updates.due_ns > box.clock.monotonic_ns() + 10**15  # nothing to turn for
    box.headquarters.fail.clear()
    box.updates.wish("resume")
    box.turns()
    assert len(box.sent) == 1


def test_stored_only(tmp_path: Path) -> None:
    box = Box(tmp_path, activate=False)
    box.headquarters.release("1.0.0", 1)
    box.turns()
    assert isinstance(box.sent[0], Updated)
    assert box.sent[0].activate is False
    box.updates.ended(AskUpdateEnded("press", "1.0.0"))
    assert box.line == ("1.0.0", "waiting", "it is stored; registry.activate is false: activate it by hand")
    box.wait()
    box.turns()
    assert len(box.sent) == 1
    box.store.set_desired(Desired("press", "1.0.0"))
    box.wait()
    box.turns()
    assert (box.state, box.line[1]) == (State.COMMITTED, "installed")


def test_what_an_operator_deactivates_stays_so(box: Box) -> None:
    box.installs("1.0.0", 1)
    box.store.set_desired(Desired("press", "", previous="1.0.0"))
    box.headquarters.release("2.0.0", 2)
    box.wait()
    box.turns()
    assert len(box.sent) == 1
    assert "was deactivated here" in box.line[2]
    box.store.set_desired(Desired("press", "1.0.0"))
    box.wait()
    box.turns()
    assert len(box.sent) == 2


def test_quarantine_and_counters_hold(box: Box) -> None:
    box.installs("1.0.0", 1)
    bad = box.headquarters.release("2.0.0", 2)
    box.headquarters.release("0.5.0", 0)
    box.store.set_desired(Desired("press", "1.0.0", quarantined=(BadVersion("2.0.0", bad.digest, "worse"),)))
    box.headquarters.releases.pop(0)  # 1.0.0 is withdrawn
    box.wait()
    box.turns()
    assert len(box.sent) == 1
    alarms = box.updates.status().alarms
    assert any("1.0.0, which runs, is not released any more" in alarm for alarm in alarms)
    assert any("2.0.0 is not installed: it is quarantined" in alarm for alarm in alarms)


def test_metadata_that_expire_are_an_alarm(box: Box) -> None:
    box.turns()
    assert box.updates.status().alarms == ()
    box.headquarters.fresh_s = 3600
    box.wait()
    box.turns()
    assert "expire soon" in box.updates.status().alarms[0]
    box.headquarters.fresh_s = -1
    box.headquarters.release("1.0.0", 1)
    box.wait()
    box.turns()
    assert "have expired" in box.updates.status().alarms[0]
    assert box.sent == []


def test_outside_of_a_window_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.registry.sync.windows.machine_zone", lambda: timezone.utc)
    box = Box(tmp_path, windows=("22:00-05:00",), poll_seconds=3 * 3600.0)
    box.clock.advance(10 * 3600)
    now = datetime.fromtimestamp(box.clock.wall_ns() / 1e9, timezone.utc)
    assert 5 <= now.hour < 22  # the fake clock's
    box.headquarters.release("1.0.0", 1)
    for _ in range(8):
        box.turns()
        if box.sent:
            break
        assert box.line[1] == "waiting"
        assert "registry.windows opens at" in box.line[2]
        box.wait()
    else:
        pytest.fail("the window never opened")
    # Soon after the opening, and not at the poll after it.
    opened = datetime.fromtimestamp(box.clock.wall_ns() / 1e9, timezone.utc)
    assert opened.hour == 22
    assert opened.minute <= 5


def test_a_look_does_nothing_but_plan(box: Box) -> None:
    box.installs("1.0.0", 1)
    release = box.headquarters.release("2.0.0", 2)
    box.updates.wish("look")
    box.turns()
    assert (len(box.sent), box.headquarters.brought) == (1, ["1.0.0"])
    (install,) = box.updates.planned().installs
    assert (install.line, install.version, install.fetch_bytes) == ("press", "2.0.0", release.bytes)
    assert box.updates.planned().source == "layout:/x"
    box.wait()
    box.turns()
    assert len(box.sent) == 2


def test_room_is_made_before_anything_is_fetched(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.installs("1.0.0", 1)
    box.installs("2.0.0", 2)
    box.installs("3.0.0", 3)
    release = box.headquarters.release("4.0.0", 4)
    named = manifest.parse(box.headquarters.look(release).data)
    missing = sum(b.size for b in (named.config, *named.layers) if box.store.blobs.size(b.hex) < 0)
    free = limits.sync_free_bytes_min + limits.sync_overhead_bytes + missing - 1
    monkeypatch.setattr(disk, "free_bytes", lambda _folder: free)
    box.updates.wish("now")
    box.turns()
    fetched = len(box.headquarters.brought)
    assert box.sent[-1] == Unneeded("press", "1.0.0")
    assert box.updates.status().doing == "making room for press 4.0.0"
    # Refused: it is left alone, and the next oldest but the one to go back to is none.
    box.updates.ended(AskUpdateEnded("press", "1.0.0", "FAILED_PRECONDITION", "MODEL_LOADED", "is loaded"))
    assert len(box.headquarters.brought) == fetched
    assert box.line[1] == "refused"
    assert "bytes of disk" in box.line[2]
    box.updates.wish("now")
    box.turns()
    box.store.remove("press", "1.0.0")
    free += missing
    box.updates.ended(AskUpdateEnded("press", "1.0.0"))
    box.turns()
    assert box.headquarters.brought[fetched:] == ["4.0.0"]


def test_what_is_withdrawn_is_told_once_and_again_after_a_restart(box: Box) -> None:
    box.installs("1.0.0", 1)
    box.installs("2.0.0", 2)
    assert box.withdrawn == [()]
    withdrawn = box.headquarters.releases.pop(0)
    for _ in range(2):
        box.updates.wish("now")
        box.turns()
    assert box.withdrawn == [(), (("press", "1.0.0"),)]
    box.restart()
    box.updates.wish("now")
    box.turns()
    assert box.withdrawn[2:] == [(("press", "1.0.0"),)]
    box.headquarters.releases.append(withdrawn)
    box.updates.wish("now")
    box.turns()
    assert box.withdrawn[-1] == ()
