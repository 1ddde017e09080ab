"""One daemon to a state folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import FailedPrecondition
from appliance.osutil.lock import InstanceLock


def test_a_second_holder_is_told_who_has_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with InstanceLock(folder) as lock:
        assert lock.path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(FailedPrecondition) as caught:
            InstanceLock(folder)
        assert str(folder) in caught.value.message
        assert f"pid {os.getpid()}" in caught.value.message
        assert caught.value.reason == "STATE_LOCKED"
    InstanceLock(folder).close()


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    lock = InstanceLock(tmp_path)
    lock.close()
    lock.close()


def test_a_killed_holder_leaves_no_stale_lock_and_its_children_do_not_hold_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, pathlib; from appliance.osutil.lock import InstanceLock\n"
        "lock = InstanceLock(pathlib.Path(sys.argv[1]))\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=0, stdout=subprocess.DEVNULL)\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FailedPrecondition, match=f"pid {holder.pid}"):
            InstanceLock(tmp_path)
        holder.kill()
        holder.wait()
        InstanceLock(tmp_path).close()
    finally:
        holder.kill()
        holder.communicate()


def test_a_holder_that_has_not_written_its_pid_yet_is_still_a_holder(tmp_path: Path) -> None:
    with InstanceLock(tmp_path) as lock:
        lock.path.write_text("")
        with pytest.raises(FailedPrecondition, match="another process"):
            InstanceLock(tmp_path)


def test_a_link_in_place_of_the_lock_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("keep")
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        InstanceLock(tmp_path)
    assert (tmp_path / "victim").read_text() == "keep"
