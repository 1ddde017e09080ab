"""`appliance logs`: what journalctl is asked for, and what is said where there is none."""

import json
import os
from pathlib import Path

import pytest

from appliance import events
from appliance.cli.logs import Wanted, arguments
from appliance.cli.main import run

UNIT = "--unit=inference-appliance.service"
DIED = events.ENGINE_DIED.message_id


@pytest.mark.parametrize(
    ("wanted", "more"),
    [
        (Wanted(), []),
        (Wanted(follow=True, lines=20), ["--lines=20", "--follow"]),
        (Wanted(since="10 min ago"), ["--since=10 min ago"]),
        (Wanted(level="error"), ["--priority=err"]),
        (Wanted(level="warning", explain=True), ["--priority=warning", "--catalog"]),
        (Wanted(as_json=True, explain=True), ["--output=json"]),
        (Wanted(model="m", version="1.0.0"), ["MODEL=m", "VERSION=1.0.0"]),
        (Wanted(request="--output=cat", client="ipv4:10.0.0.7"), ["REQUEST_ID=--output=cat", "CLIENT=ipv4:10.0.0.7"]),
        (Wanted(message_id=DIED), [f"MESSAGE_ID={DIED}"]),
    ],
)
def test_arguments(wanted: Wanted, more: list[str]) -> None:
    assert arguments(wanted) == [UNIT, *more]


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the command would become; it goes on, which the real one can't."""
    program = tmp_path / "journalctl"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    became: list[str] = []

    def execv(path: str, words: list[str]) -> None:
        assert path == words[0] == str(program)
        became.extend(words[1:])

    monkeypatch.setattr(os, "execv", execv)
    return became


def test_it_becomes_journalctl(journalctl: list[str]) -> None:
    assert run(["logs", "-f", "-n", "5", "--model", "m", "--event", "engine.died", "--explain"]) == 0
    assert journalctl == [UNIT, "--lines=5", "--follow", "--catalog", "MODEL=m", f"MESSAGE_ID={DIED}"]


def test_an_unknown_event(journalctl: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["logs", "--event", "engine.dead"]) == 2
    assert "did you mean engine.died?" in capsys.readouterr().err
    assert run(["logs", "--event", "?"]) == 2
    assert "`appliance logs --events` lists them" in capsys.readouterr().err
    assert journalctl == []


def test_without_journalctl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["logs"]) == 5
    assert "standard error" in capsys.readouterr().err


def test_the_kinds_of_events(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["logs", "--events"]) == 0
    shown = capsys.readouterr().out
    assert all(kind.name in shown and kind.message_id in shown for kind in events.ALL)
    assert max(map(len, shown.splitlines())) <= 80
    assert run(["logs", "--events", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["events"]
    assert {each["name"]: each["message_id"] for each in listed} == {k.name: k.message_id for k in events.ALL}
