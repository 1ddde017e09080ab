"""What a test's machine stands on: an overlay in memory for its disk, a control group of its own; who can have one."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "zstd": "zstd",
    "nsenter": "util-linux",
    "tar": "tar",
}
_PR_SET_PDEATHSIG = 1


def missing() -> str:
    """Why there can be no machine here; empty when there can."""
    if os.geteuid() != 0:
        return "a machine for tests needs root"
    absent = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if absent:
        return f"not installed: {' '.join(absent)} (Debian: apt-get install {' '.join(absent)})"
    if _cgroup2() is None:
        return "no control groups of version 2 are mounted"
    return ""


def required() -> None:
    """Skips where there can be no machine; fails there where CI is set."""
    reason = missing()
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)


# --- its disk --------------------------------------------------------------------------------------------------------


def mount_overlay(folder: Path, root: Sequence[Path]) -> None:
    """``folder``/root: ``root`` (the topmost first), and over it what is written, in memory."""
    disk, merged = folder / "disk", folder / "root"
    disk.mkdir()
    merged.mkdir()
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", disk)
    for name in ("upper", "work"):
        (disk / name).mkdir()
    layers = f"lowerdir={':'.join(map(str, root))},upperdir={disk}/upper,workdir={disk}/work"
    _mount("-t", "overlay", "overlay", "-o", layers, merged)


def unmount(folder: Path) -> None:
    for name in ("root", "disk"):
        subprocess.run(["umount", "--lazy", str(folder / name)], capture_output=True, check=False)


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


# --- its processes ---------------------------------------------------------------------------------------------------


def into_its_own_group(name: str) -> Callable[[], None]:
    """For preexec_fn: the process is in the control group ``name``, and ends with us.

    Two machines in one group would be each other's.
    """
    hierarchy = _cgroup2()
    assert hierarchy is not None
    group = hierarchy / name
    group.mkdir(exist_ok=True)
    libc = ctypes.CDLL(None)

    def enter() -> None:
        (group / "cgroup.procs").write_text("0")
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return enter


def remove_group(name: str) -> None:
    """The group ``name`` and what systemd made in it, in every hierarchy."""
    for folder in Path("/sys/fs/cgroup").glob(f"**/{name}"):
        for place, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                Path(place).rmdir()


def _cgroup2() -> Path | None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next((Path(row[1]) for row in mounts if row[2] == "cgroup2"), None)
