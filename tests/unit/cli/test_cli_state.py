"""`appliance state`: what the folder's format is, and the way back, without a daemon."""

import pytest

from appliance.cli.exit_codes import ExitCode
from appliance.osutil.lock import InstanceLock
from appliance.state import upgrade
from appliance.state.stamp import FORMAT


@pytest.fixture
def state(tmp_path):
    """Upgraded from format 1."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "desired.json").write_bytes(b"old")
    upgrade.prepare(tmp_path, version="0.9.0")
    (tmp_path / "state" / "desired.json").write_bytes(b"new")
    return tmp_path


def test_show(cli, state):
    done = cli("state", "show", "--state-dir", state)
    assert f"format {FORMAT}, last written by 0.9.0" in done.out
    assert "backup: format-1" in done.out
    shown = cli("state", "show", "--state-dir", state, "--json").json
    assert shown == {"state_dir": str(state), "format": FORMAT, "written_by": "0.9.0", "backups": ["format-1"]}


def test_restore(cli, state):
    with InstanceLock(state):
        assert cli("state", "restore", "format-1", "--state-dir", state).code == ExitCode.REFUSED
    done = cli("state", "restore", "format-1", "--state-dir", state)
    assert done.code == 0
    assert "has format 1 again" in done.out
    assert (state / "state" / "desired.json").read_bytes() == b"old"


def test_what_is_not_there(cli, state, tmp_path):
    done = cli("state", "restore", "format-7", "--state-dir", state)
    assert done.code == ExitCode.NOT_FOUND
    assert "there: format-1" in done.err
    assert cli("state", "show", "--state-dir", tmp_path / "no").code == ExitCode.NOT_FOUND
    (tmp_path / "new").mkdir()
    assert cli("state", "show", "--state-dir", tmp_path / "new", "--json").json["format"] is None
