"""Statuses that came back: whose word counts, and what is flagged."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import FailedPrecondition, InvalidArgument, NotFound
from appliance.osutil import faults
from appliance.publish.bundle import fleet, known
from appliance.publish.bundle.fleet import Machine, Verdict
from appliance.registry.bundle import return_format
from appliance.registry.bundle.return_format import Report

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in range(3)]
PUBLIC = [key.public_key().public_bytes_raw().hex() for key in KEYS]


def put(stick: Path, device: str, counter: int = 5, key: int = 0, name: str = "") -> Path:
    folder = stick / "return"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (name or f"{device}.json")
    path.write_bytes(return_format.encode(Report(device, counter, 1_800_000_000, "0.1.0"), KEYS[key]))
    return path


def verdicts(*paths: Path, before: dict[str, Machine] | None = None, enrol: bool = False) -> list[tuple[str, str]]:
    return [(row.device, row.verdict.value) for row in fleet.judge(fleet.read(paths), before or {}, enrol=enrol)]


@pytest.mark.parametrize(
    ("before", "enrol", "verdict"),
    [
        ({}, False, "new"),
        ({}, True, "enrolled"),
        ({"a": Machine(PUBLIC[0], 4)}, False, "known"),
        ({"a": Machine(PUBLIC[0], 5)}, False, "known"),
        ({"a": Machine(PUBLIC[0], 6)}, False, "older"),
        ({"a": Machine(PUBLIC[0], 6)}, True, "older"),
        ({"a": Machine(PUBLIC[1], 1)}, False, "other key"),
        ({"a": Machine(PUBLIC[1], 1)}, True, "other key"),
        ({"b": Machine(PUBLIC[0], 1)}, False, "new"),
    ],
)
def test_a_verdict_for_each_case(tmp_path: Path, before: dict[str, Machine], enrol: bool, verdict: str) -> None:
    put(tmp_path, "a")
    found = fleet.read([tmp_path])
    (row,) = fleet.judge(found, before, enrol=enrol)
    assert row.verdict.value == verdict
    assert (row.verdict in fleet.BAD) == (verdict in ("older", "other key"))
    after = fleet.learned([row], found, before)
    learnt = {"a": Machine(PUBLIC[0], 5)} if verdict in ("known", "enrolled") else {}
    assert after == {**before, **learnt}


def test_what_is_signed_by_another_key_is_not_shown(tmp_path: Path) -> None:
    put(tmp_path, "a", key=1)
    (row,) = fleet.judge(fleet.read([tmp_path]), {"a": Machine(PUBLIC[0], 1)}, enrol=True)
    assert row.report is None


def test_several_sticks_the_newest_counts(tmp_path: Path) -> None:
    for number, counter in enumerate((7, 9, 8)):
        put(tmp_path / str(number), "a", counter)
    put(tmp_path / "1", "b", 1, key=1)
    paths = [tmp_path / str(number) for number in range(3)]
    rows = fleet.judge(fleet.read(paths), {"a": Machine(PUBLIC[0], 8)}, enrol=False)
    assert [(row.device, row.verdict) for row in rows] == [("a", Verdict.KNOWN), ("b", Verdict.NEW)]
    assert rows[0].report is not None
    assert rows[0].report.counter == 9


def test_two_machines_of_one_name_are_none(tmp_path: Path) -> None:
    put(tmp_path / "1", "a", 1, key=0)
    put(tmp_path / "2", "a", 2, key=1)
    paths = (tmp_path / "1", tmp_path / "2")
    assert verdicts(*paths, enrol=True) == [("a", "other key")] * 2
    before = {"a": Machine(PUBLIC[0], 1)}
    assert sorted(verdicts(*paths, before=before)) == [("a", "known"), ("a", "other key")]


def test_a_renamed_file_is_still_its_machines(tmp_path: Path) -> None:
    put(tmp_path, "a", name="b.json")
    assert verdicts(tmp_path) == [("a", "new")]


def test_all_ways_to_name_them(tmp_path: Path) -> None:
    path = put(tmp_path, "a")
    for given in (tmp_path, tmp_path / "return", path):
        assert verdicts(given) == [("a", "new")]
    (tmp_path / "empty").mkdir()
    assert verdicts(tmp_path / "empty") == []
    with pytest.raises(NotFound):
        fleet.read([tmp_path / "nothing"])


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"counter":5', b'"counter":9'))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    moved = path.rename(path.parents[2] / "elsewhere.json")
    path.symlink_to(moved)


def endless(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(1 << 40)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "verdict"),
    [(changed, "forged"), (cut, "broken"), (pipe, "broken"), (link, "broken"), (endless, "broken"), (folder, "broken")],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_status(tmp_path: Path, damage: Callable[[Path], None], verdict: str) -> None:
    damage(put(tmp_path / "stick", "a"))
    put(tmp_path / "stick", "b", key=1)
    assert verdicts(tmp_path / "stick") == [("b", "new"), ("", verdict)]


def test_a_return_folder_that_leads_elsewhere_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "a")
    (tmp_path / "stick").mkdir()
    (tmp_path / "stick/return").symlink_to(tmp_path / "elsewhere/return")
    assert verdicts(tmp_path / "stick") == []


def test_too_many_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.limits.fleet_boxes_max", 2)
    for name in "abc":
        put(tmp_path, name)
    with pytest.raises(InvalidArgument):
        fleet.read([tmp_path])


def test_what_is_known_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    assert known.read(path) == {}
    machines = {"b": Machine(PUBLIC[1], 7), "a": Machine(PUBLIC[0], 5)}
    known.write(path, machines)
    assert known.read(path) == machines


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "machines": {}}', '{"format": 1, "machines": {"a": 7}}']
)
def test_a_file_that_cannot_be_read_is_never_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(text)
    with pytest.raises(FailedPrecondition) as caught:
        known.read(path)
    assert caught.value.reason == "FLEET_BROKEN"
    assert path.read_text() == text


def test_a_full_disk_leaves_what_was_known(tmp_path: Path) -> None:
    path = tmp_path / "fleet.json"
    known.write(path, {"a": Machine(PUBLIC[0], 1)})
    faults.arm("publish.fleet.rename=enospc")
    try:
        with pytest.raises(FailedPrecondition, match="No space left"):
            known.write(path, {"a": Machine(PUBLIC[0], 2)})
    finally:
        faults.arm("")
    assert known.read(path) == {"a": Machine(PUBLIC[0], 1)}
