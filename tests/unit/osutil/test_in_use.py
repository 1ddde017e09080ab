"""A folder is in use as long as a process that marked it lives."""

import os
import signal
import subprocess
import sys

import pytest

from appliance.osutil import in_use


def is_abandoned(folder) -> bool:
    with in_use.abandoned(folder) as left:
        return left


def test_a_mark_lasts_until_it_is_closed(tmp_path):
    folder = tmp_path / "a"
    fd = in_use.mark(folder)
    assert folder.is_dir()
    assert not is_abandoned(folder)
    os.close(fd)
    assert is_abandoned(folder)


def test_several_may_mark(tmp_path):
    folder = tmp_path / "a"
    fd = in_use.mark(folder)
    with in_use.marked(folder):
        os.close(fd)
        assert not is_abandoned(folder)
    assert is_abandoned(folder)


def test_a_dead_process_leaves_no_mark(tmp_path):
    folder = tmp_path / "a"
    code = f"import pathlib; from appliance.osutil import in_use; in_use.mark(pathlib.Path({str(folder)!r})); print(1, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"1\n"
        assert not is_abandoned(folder)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert is_abandoned(folder)


def test_a_folder_that_a_cleaner_takes_away_is_made_again(tmp_path, monkeypatch):
    folder = tmp_path / "a"
    real, times = in_use.fcntl.flock, []

    def flock(fd, operation):
        if not times:
            folder.rmdir()  # between our look and our lock
        times.append(fd)
        real(fd, operation)

    monkeypatch.setattr(in_use.fcntl, "flock", flock)
    os.close(in_use.mark(folder))
    assert folder.is_dir()
    assert len(times) == 2


def test_what_is_no_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"), in_use.abandoned(tmp_path / "file"):
        pass
