"""How much memory there is for this process and its like: of the machine, or of the control group that bounds it."""

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Room(NamedTuple):
    """Bytes: of all memory, and of what can be had now without taking it from anybody; ``swaps``: there is swap."""

    total: int
    available: int
    swaps: bool = False


def room(root: Path = Path("/")) -> Room | None:
    """The tightest of the machine and the control groups above this process; None where /proc can't be read.

    A group's page cache counts as available, as the kernel counts it in MemAvailable (proc(5), cgroup-v2).
    """
    try:
        found = _machine(root / "proc/meminfo")
    except (OSError, ValueError, KeyError, IndexError):
        return None
    for group in _groups(root):
        try:
            most = int((group / "memory.max").read_text())
            current = int((group / "memory.current").read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            cache = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
        except (OSError, ValueError):  # "max", or no such file in the root group
            continue
        available = min(found.available, max(0, most - current + cache))
        found = Room(min(found.total, most), available, found.swaps)
    return found


def _machine(path: Path) -> Room:
    lines = path.read_text().splitlines()
    sizes = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":", 1) for line in lines)}
    return Room(sizes["MemTotal"], sizes["MemAvailable"], sizes.get("SwapTotal", 0) > 0)


def _groups(root: Path) -> list[Path]:
    """This process's control group and those above it (cgroups(7), version 2 only)."""
    try:
        text = (root / "proc/self/cgroup").read_text()
    except OSError:
        return []
    path = next((line[3:] for line in text.splitlines() if line.startswith("0::/")), "/")
    own = PurePosixPath(path.lstrip("/"))
    return [root / "sys/fs/cgroup" / part for part in (own, *own.parents)]


def private_bytes(pid: int | str, swaps: bool = False, proc: Path = Path("/proc")) -> int:
    """Memory of a process that only its end gives back: not files, not what it shares. Raises OSError, ValueError.

    The text of a model that is mapped from its file doesn't count: the kernel takes it back when it is short.
    """
    fields = (proc / str(pid) / "statm").read_bytes().split()
    if len(fields) < 3:
        raise ValueError("statm has no numbers")
    found = max(0, int(fields[1]) - int(fields[2])) * _PAGE_BYTES
    if swaps:
        found += _status(pid, "VmSwap", proc)
    return found


def writable_bytes(proc: Path = Path("/proc")) -> int:
    """What RLIMIT_DATA counts of this process: private memory that it may write to, touched or not."""
    return _status("self", "VmData", proc)


def _status(pid: int | str, name: str, proc: Path) -> int:
    text = (proc / str(pid) / "status").read_text(errors="replace")
    line = next((line for line in text.splitlines() if line.startswith(name + ":")), "")
    return int(line.split()[1]) * 1024 if line else 0
