"""What a test's machine stands on: an overlay in memory for its disk, a control group of its own; who can have one."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "zstd": "zstd",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
_KILL_S = 10.0


def missing() -> str:
    """Why there can be no machine here; empty when there can."""
    if os.geteuid() != 0:
        return "a machine for tests needs root"
    absent = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if absent:
        return f"not installed: {' '.join(absent)} (Debian: apt-get install {' '.join(absent)})"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        return "a machine for tests needs the right to mount, which a container rarely has"
    hierarchy = _cgroup2()
    if hierarchy is None or not os.access(hierarchy, os.W_OK):
        return "a machine for tests needs control groups of version 2 that can be written to"
    return ""


def required() -> None:
    """Skips where there can be no machine; fails there where CI is set."""
    skip_for(missing())


def skip_for(reason: str) -> None:
    """Skips, and fails where CI is set; not for an empty ``reason``."""
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


def sweep() -> None:
    """Takes away what machines of processes that are gone have left: nobody could after a kill -9."""
    for folder in Path(tempfile.gettempdir()).glob("ia-*-*-*"):
        _, owner, number, _ = folder.name.split("-", 3)
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            kill_group(f"ia-{owner}-{number}")
            unmount(folder)
            shutil.rmtree(folder, ignore_errors=True)
            remove_group(f"ia-{owner}-{number}")


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


# --- its processes ---------------------------------------------------------------------------------------------------


# Not preexec_fn: what runs between fork(2) and execve(2) in a process with threads may wait for a lock for ever.
_ENTER = """
import ctypes, os, sys
count = int(sys.argv[1])
for path in sys.argv[2 : 2 + count]:
    with open(path, "w") as group:
        group.write("0")
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
os.execvp(sys.argv[2 + count], sys.argv[2 + count :])
"""


def in_its_own_group(name: str, command: Sequence[str], old_groups: bool = False) -> list[str]:
    """The command line that runs ``command`` in the control group ``name``, to end with us (its own children need not).

    Two machines in one group would be each other's. ``old_groups``: in the hierarchies of version 1, too.
    """
    hierarchies = [_cgroup2(), *(_cgroups1() if old_groups else [])]
    entries = []
    for hierarchy in hierarchies:
        assert hierarchy is not None
        (hierarchy / name).mkdir(exist_ok=True)
        entries.append(str(hierarchy / name / "cgroup.procs"))
    return [sys.executable, "-I", "-S", "-c", _ENTER, str(len(entries)), *entries, *command]


def remove_group(name: str) -> None:
    """The group ``name`` and what systemd made in it, in every hierarchy."""
    for folder in Path("/sys/fs/cgroup").glob(f"**/{name}"):
        for place, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):
                Path(place).rmdir()


def has_memory_controller() -> bool:
    """Whether control groups of version 2 bound memory here."""
    hierarchy = _cgroup2()
    return hierarchy is not None and "memory" in (hierarchy / "cgroup.controllers").read_text().split()


def _cgroups1() -> list[Path]:
    """The old hierarchies in which a group can be made without more ado."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(row[1]) for row in mounts if row[2] == "cgroup" and not row[1].endswith("/cpuset")]


def kill_group(name: str) -> None:
    """All of its processes: a container outlives the systemd-nspawn that is killed."""
    hierarchy = _cgroup2()
    if hierarchy is None or not (hierarchy / name).exists():
        return
    (hierarchy / name / "cgroup.kill").write_text("1")
    limit = time.monotonic() + _KILL_S
    while "populated 1" in (hierarchy / name / "cgroup.events").read_text() and time.monotonic() < limit:
        time.sleep(0.01)


def _cgroup2() -> Path | None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return next((Path(row[1]) for row in mounts if row[2] == "cgroup2"), None)
