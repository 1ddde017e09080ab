"""Control groups of the daemon's own, where it was given a subtree: processor weight, and memory bounds (cgroups(7)).

A nice value counts only against processes of the same group, so where groups divide the processor it is the group's
weight that says how much engines of the throughput class get beside the rest of the daemon. Each engine is in a group of
its own besides, which may have a bound of memory that the kernel itself keeps. Only a subtree that is ours is touched:
one that systemd delegated (Delegate= in the unit), or that another user than root may write, with no process in it but
the daemon that starts. Control groups have no processes beside subgroups, so the daemon moves down:

    <the unit's group>/daemon/main          the supervisor, front-ends, the sync process
    <the unit's group>/daemon/engine-1      an engine of the latency class
    <the unit's group>/throughput/engine-2  an engine of the throughput class

The processor is divided between daemon and throughput only. Without the memory controller there are these two alone.
"""

import contextlib
import os
from pathlib import Path

import msgspec

# A tenth of the daemon's 100, as their nice value says where there are no groups (scheduling.py).
_THROUGHPUT_WEIGHT = 10
# What systemd marks a delegated group with; "trusted" when its manager runs as root.
_MARKS = ("trusted.delegate", "user.delegate")


class NoGroupsError(Exception):
    """No groups can be made here: the text says why."""


class Surroundings(msgspec.Struct, frozen=True):
    """What there is: ``delegated`` to us, the ``controllers`` on offer, and the ``processes`` in the group."""

    delegated: bool
    writable: bool
    controllers: frozenset[str]
    processes: frozenset[int]


class ControlGroups(msgspec.Struct, frozen=True):
    """``base`` is the group that was ours from the start; ``memory``: whether there is a group for each engine."""

    base: Path
    memory: bool = False

    @property
    def daemon(self) -> Path:
        """Of the supervisor, front-ends and latency engines."""
        return self.base / "daemon"

    @property
    def main(self) -> Path:
        """Where the supervisor itself is."""
        return self.daemon / "main" if self.memory else self.daemon

    @property
    def throughput(self) -> Path:
        """Of throughput engines."""
        return self.base / "throughput"


def refusal(around: Surroundings, pid: int) -> str:
    """Why the process ``pid`` makes no groups; "" when it does."""
    if not around.delegated or not around.writable:
        return "its control group is not delegated to it (Delegate=cpu memory in the unit)"
    if "cpu" not in around.controllers:
        return "its control group has no cpu controller to hand on"
    if around.processes != {pid}:
        return "other processes are in its control group"
    return ""


def make_groups(root: Path = Path("/")) -> ControlGroups:
    """Makes the groups and moves this process into the daemon's. Raises NoGroupsError, with nothing changed.

    Called before any child is started. ``root`` is where /proc and /sys hang.
    """
    base = _own_group(root)
    around = _look(base)
    reason = refusal(around, os.getpid())
    if reason:
        raise NoGroupsError(reason)
    groups = ControlGroups(base, "memory" in around.controllers)
    try:
        for group in (groups.daemon, groups.throughput, groups.main):
            group.mkdir(exist_ok=True)
        join(groups.main)
        _write(base / "cgroup.subtree_control", "+cpu +memory" if groups.memory else "+cpu")
        if groups.memory:
            for group in (groups.daemon, groups.throughput):
                _write(group / "cgroup.subtree_control", "+memory")
        _write(groups.throughput / "cpu.weight", str(_THROUGHPUT_WEIGHT))
    except OSError as error:
        undo(groups)
        raise NoGroupsError(f"its control group could not be divided ({error.strerror})") from None
    return groups


def make_engine_group(groups: ControlGroups, number: int, bytes_max: int, *, throughput: bool) -> Path | None:
    """The group for engine ``number`` to join; None: it stays where the supervisor is.

    ``bytes_max`` 0: bounded by the groups above alone. What the bound counts is private memory and cached files, which the
    kernel takes back first. Raises OSError.
    """
    parent = groups.throughput if throughput else groups.daemon
    if not groups.memory:
        return parent if throughput else None
    group = parent / f"engine-{number}"
    group.mkdir(exist_ok=True)
    if bytes_max:
        _write(group / "memory.max", str(bytes_max))
    return group


def remove_engine_group(group: Path) -> None:
    """When its engine is gone; one that lingers is removed by systemd with the unit's."""
    if group.name.startswith("engine-"):
        with contextlib.suppress(OSError):
            group.rmdir()


def join(group: Path) -> None:
    """Moves this process with all its threads. Raises OSError."""
    _write(group / "cgroup.procs", str(os.getpid()))


def undo(groups: ControlGroups) -> None:
    """Puts this process back where it was."""
    for group in (groups.daemon, groups.throughput):
        with contextlib.suppress(OSError):
            _write(group / "cgroup.subtree_control", "-memory")
    with contextlib.suppress(OSError):
        _write(groups.base / "cgroup.subtree_control", "-cpu -memory" if groups.memory else "-cpu")
    with contextlib.suppress(OSError):
        join(groups.base)
    for group in (groups.main, groups.daemon, groups.throughput):
        with contextlib.suppress(OSError):
            group.rmdir()


def _own_group(root: Path) -> Path:
    """The group of this process in the one hierarchy of version 2 (its line in /proc/self/cgroup begins with 0::)."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        raise NoGroupsError("this kernel has no control groups") from None
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    base = root / "sys/fs/cgroup" / (path or "").lstrip("/")
    # The root of all groups has no type, and is nobody's to divide.
    if path is None or not (base / "cgroup.type").exists():
        raise NoGroupsError("it is in no control group of version 2")
    return base


def _look(base: Path) -> Surroundings:
    try:
        controllers = (base / "cgroup.controllers").read_text().split()
        processes = map(int, (base / "cgroup.procs").read_text().split())
        return Surroundings(
            delegated=_marked(base) or os.geteuid() != 0,
            writable=os.access(base, os.W_OK) and os.access(base / "cgroup.procs", os.W_OK),
            controllers=frozenset(controllers),
            processes=frozenset(processes),
        )
    except (OSError, ValueError):
        raise NoGroupsError("its control group cannot be read") from None


def _marked(base: Path) -> bool:
    for name in _MARKS:
        with contextlib.suppress(OSError):
            if os.getxattr(base, name) == b"1":
                return True
    return False


def _write(path: Path, text: str) -> None:
    # Without O_CREAT: what isn't there must not become a file of ours.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
