"""The journal of updates: what it remembers, what it refuses, and what it makes of files that are not as it wrote them."""

import json
import shutil
from pathlib import Path

import pytest

from appliance import limits
from appliance.registry.sync import journal_file
from appliance.registry.sync.journal import Journal
from appliance.registry.sync.states import Event, State, WrongTransition
from tests.support.sync_facts import NOW, release

TWO = release("2.0.0", 2)
GOOD_WAY = [Event.FETCHED, Event.ADOPTED, Event.ACTIVATE, Event.SWITCHED, Event.SETTLED]


def far(tmp_path: Path, *events: Event) -> Journal:
    journal = Journal(tmp_path)
    journal.begin(TWO, NOW)
    for event in events:
        journal.tell("press", event, NOW, "because")
    return journal


def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "state" / journal_file.NAME, tmp_path / "state" / journal_file.COPY


def test_an_update_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    far(tmp_path, *GOOD_WAY)
    again = Journal(tmp_path)
    assert again.updates["press"].state is State.COMMITTED
    assert (again.counter("press"), again.counter("vad"), again.quarantine) == (2, -1, ())


def test_the_device_is_made_once(tmp_path: Path) -> None:
    device = Journal(tmp_path).device
    assert len(device) == 32
    assert Journal(tmp_path).device == device
    assert Journal(tmp_path / "other").device != device


@pytest.mark.parametrize("number", range(len(GOOD_WAY) + 1))
def test_a_counter_counts_from_the_switch_on(tmp_path: Path, number: int) -> None:
    assert far(tmp_path, *GOOD_WAY[:number]).counter("press") == (2 if number >= 4 else -1)


@pytest.mark.parametrize(
    ("events", "bad"),
    [
        (GOOD_WAY[:4], False),
        ([*GOOD_WAY[:4], Event.WORSE], True),
        ([*GOOD_WAY[:4], Event.WORSE, Event.BACK], True),
        ([*GOOD_WAY[:4], Event.WORSE, Event.BACK, Event.CONDEMNED], True),
        ([*GOOD_WAY, Event.CALLED_BACK], True),
        ([*GOOD_WAY[:3], Event.UNFIT], True),
        ([Event.BROKE_OFF], False),
        ([Event.GIVEN_UP], False),
    ],
)
def test_what_is_bad_is_listed_before_anything_is_done_about_it(tmp_path: Path, events: list[Event], bad: bool) -> None:
    far(tmp_path, *events)
    again = Journal(tmp_path)
    assert (TWO.digest in again.quarantined) is bad
    assert len(again.quarantine) == bad
    if bad:
        assert (again.quarantine[0].version, again.quarantine[0].reason) == ("2.0.0", "because")
        with pytest.raises(WrongTransition) as caught:
            again.begin(TWO, NOW)
        assert caught.value.reason == "SYNC_QUARANTINED"


def test_a_quarantined_version_is_lifted_by_an_operator(tmp_path: Path) -> None:
    journal = far(tmp_path, *GOOD_WAY[:3], Event.UNFIT)
    assert not journal.lift("sha256:other", NOW)
    assert journal.lift(TWO.digest, NOW)
    again = Journal(tmp_path)
    assert (again.quarantine, again.updates["press"].state) == ((), State.CANCELLED)
    assert again.begin(TWO, NOW).state is State.DOWNLOADING


@pytest.mark.parametrize("number", range(len(GOOD_WAY) + 1))
def test_another_release_takes_the_place_only_of_what_does_not_run(tmp_path: Path, number: int) -> None:
    journal = far(tmp_path, *GOOD_WAY[:number])
    with pytest.raises(WrongTransition) if number == 3 else _fine():
        assert journal.begin(release("3.0.0", 3), NOW).version == "3.0.0"


def _fine() -> object:
    import contextlib

    return contextlib.nullcontext()


def test_tries_come_later_each_time_and_end_at_six_hours(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    waits = []
    for _ in range(12):
        journal.begin(TWO, NOW)
        update = journal.tell("press", Event.BROKE_OFF, NOW, "no network")
        waits.append(update.retry_s - NOW)
    assert waits[:5] == [60, 120, 240, 480, 960]
    assert waits[-1] == limits.sync_retry_s_max
    assert update.tries == 12
    assert journal.begin(release("3.0.0", 3), NOW).tries == 0


def test_what_nobody_began_cannot_go_on(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(WrongTransition, match="no update of press"):
        journal.tell("press", Event.FETCHED, NOW)
    journal.begin(TWO, NOW)
    with pytest.raises(WrongTransition):
        journal.begin(TWO, NOW)
    with pytest.raises(WrongTransition, match="downloading cannot be settled"):
        journal.tell("press", Event.SETTLED, NOW)
    assert Journal(tmp_path).updates["press"].state is State.DOWNLOADING


def test_a_pause_lasts(tmp_path: Path) -> None:
    Journal(tmp_path).pause(True)
    assert Journal(tmp_path).paused


def test_reasons_and_the_list_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "sync_journal_entries_max", 3)
    journal = Journal(tmp_path)
    for n in range(5):
        journal.begin(release(f"{n}.0.0", n), NOW)
        journal.tell("press", Event.UNFIT, NOW, "x" * 9999)
    assert [bad.version for bad in journal.quarantine] == ["2.0.0", "3.0.0", "4.0.0"]
    assert len(journal.quarantine[0].reason) == limits.sync_reason_chars_max
    for line in ("a", "b"):
        journal.begin(release(line=line), NOW)
    with pytest.raises(WrongTransition, match="more than this box remembers"):
        journal.begin(release(line="c"), NOW)


def test_a_file_of_before_there_were_updates_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    old = {"format": 1, "device": "d" * 32, "paused": True, "counters": {"press": 7}}
    files(tmp_path)[0].write_text(json.dumps(old))
    journal = Journal(tmp_path)
    assert (journal.device, journal.paused, journal.counter("press")) == ("d" * 32, True, 7)
    journal.begin(TWO, NOW)
    assert Journal(tmp_path).counter("press") == 7


@pytest.mark.parametrize("which", [0, 1])
def test_either_copy_will_do(tmp_path: Path, which: int) -> None:
    far(tmp_path, *GOOD_WAY[:2])
    files(tmp_path)[which].unlink()
    assert Journal(tmp_path).updates["press"].state is State.STAGED


def test_the_newer_copy_counts(tmp_path: Path) -> None:
    far(tmp_path, Event.FETCHED)
    main, copy = files(tmp_path)
    old = copy.read_bytes()
    Journal(tmp_path).tell("press", Event.ADOPTED, NOW)
    copy.write_bytes(old)
    assert Journal(tmp_path).updates["press"].state is State.STAGED
    shutil.move(main, tmp_path / "lost")
    assert Journal(tmp_path).updates["press"].state is State.VERIFYING


def test_every_byte_flip_is_noticed_and_set_aside(tmp_path: Path) -> None:
    far(tmp_path, *GOOD_WAY[:4], Event.WORSE)
    main, _ = files(tmp_path)
    good = main.read_bytes()
    expected = journal_file.decode(good)
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        try:
            # White space is no content.
            assert journal_file.decode(bytes(bad)) == expected
        except ValueError:
            continue
    main.write_bytes(good.replace(b'"rolling_back"', b'"committed"'))
    assert Journal(tmp_path).updates["press"].state is State.ROLLING_BACK  # from the copy
    assert main.with_name("sync.json.broken").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"format":2,"device":"x"}',
        b'{"format":1,"device":""}',
        b'{"format":1,"device":"x","more":1}',
        b'{"format":1,"device":"x","writes":1}',
        b"[" * 100_000,
    ],
)
def test_without_any_copy_that_can_be_read_it_begins_anew(tmp_path: Path, data: bytes) -> None:
    device = far(tmp_path, *GOOD_WAY).device
    for file in files(tmp_path):
        file.write_bytes(data)
    again = Journal(tmp_path)
    assert (again.updates, again.device != device) == ({}, True)
    assert [file.with_name(file.name + ".broken").read_bytes() for file in files(tmp_path)] == [data, data]


def test_a_file_that_is_too_large_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far(tmp_path)
    monkeypatch.setattr(limits, "sync_journal_bytes_max", 10)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        journal_file.decode(files(tmp_path)[0].read_bytes())
