"""A state folder that an earlier version wrote: the real daemon takes it up, and an older one would not take it back."""

import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from daemon_process import APPLIANCE, Daemon

STATES = Path(__file__).parent.parent / "support" / "states"


@pytest.fixture
def folder(short_path: Path) -> Path:
    """With the state that the daemon of format 1 left: press 1.0.0 and 1.1.0 (active), pump 2.0.0 (not active)."""
    with tarfile.open(STATES / "format-1.tar.xz") as archive:
        archive.extractall(short_path)
    return short_path


def test_format_1_serves_as_before_and_has_a_backup(folder: Path) -> None:
    desired = (folder / "state" / "state" / "desired.json").read_bytes()
    daemon = Daemon(folder)
    try:
        daemon.ready()
        assert daemon.json("store", "check")["problems"] == []
        daemon.eventually(lambda: daemon.model("press").state == "ready")
        rows = {(m.name, m.version): m.active for m in daemon.status().models}
        assert rows == {("press", "1.0.0"): False, ("press", "1.1.0"): True, ("pump", "2.0.0"): False}
        daemon.cli("models", "rollback", "press")
        assert daemon.model("press").version == "1.0.0"
        shown = json.loads(daemon_less(folder, "show").stdout)
        assert (shown["format"], shown["backups"]) == (2, ["format-1"])
        busy = daemon_less(folder, "restore", "format-1")
        assert busy.returncode != 0
        assert "is in use by the process with pid" in json.loads(busy.stdout)["error"]["message"]
    finally:
        daemon.stop()
    assert daemon_less(folder, "restore", "format-1").returncode == 0
    assert (folder / "state" / "state" / "desired.json").read_bytes() == desired
    assert json.loads((folder / "state" / "format.json").read_bytes()) == {"format": 1, "written_by": ""}


def test_what_a_newer_version_wrote_is_refused_for_good(folder: Path) -> None:
    (folder / "state" / "format.json").write_text('{"format": 99, "written_by": "9.0.0"}')
    daemon = Daemon(folder)
    assert daemon.process.wait(60) == 7  # the unit's RestartPreventExitStatus
    daemon.stop()
    assert "was written by 9.0.0 in format 99" in "\n".join(daemon.log)
    assert json.loads((folder / "state" / "format.json").read_bytes())["format"] == 99


def daemon_less(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The `appliance state` command, which asks no daemon."""
    command = [*APPLIANCE, "state", *arguments, "--state-dir", str(folder / "state"), "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False)
