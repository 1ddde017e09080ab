"""What processes have used so far, from /proc: processor time and context switches, by what each process is for.

Sums over the threads that live now, so both readings must be of processes whose threads stay (all of the daemon's do).
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """Of one process, or of several: nanoseconds on a processor, nanoseconds ready but waiting for one, switches.

    ``voluntary``: it had to wait for something; ``involuntary``: another was put in its place.
    """

    cpu_ns: int = 0
    waited_ns: int = 0
    voluntary: int = 0
    involuntary: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.cpu_ns + other.cpu_ns,
            self.waited_ns + other.waited_ns,
            self.voluntary + other.voluntary,
            self.involuntary + other.involuntary,
        )

    def since(self, before: "Usage") -> "Usage":
        """The difference; a thread that ended meanwhile must not make it negative."""
        return Usage(
            max(0, self.cpu_ns - before.cpu_ns),
            max(0, self.waited_ns - before.waited_ns),
            max(0, self.voluntary - before.voluntary),
            max(0, self.involuntary - before.involuntary),
        )


def parse_schedstat(text: str) -> tuple[int, int]:
    """(ns on a processor, ns waiting for one): proc(5), /proc/PID/schedstat."""
    on, waiting, _ = text.split()
    return int(on), int(waiting)


def parse_switches(text: str) -> tuple[int, int]:
    """(voluntary, involuntary) context switches of /proc/PID/task/TID/status."""
    found = {"voluntary_ctxt_switches": 0, "nonvoluntary_ctxt_switches": 0}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value)
    return found["voluntary_ctxt_switches"], found["nonvoluntary_ctxt_switches"]


def usage_of(pid: int, proc: Path = PROC) -> Usage:
    """Of all threads of a process; nothing for one that is gone."""
    total = Usage()
    with contextlib.suppress(OSError):
        for task in (proc / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError, ValueError):
                on, waiting = parse_schedstat((task / "schedstat").read_text())
                total += Usage(on, waiting, *parse_switches((task / "status").read_text()))
    return total


def tree_of(pid: int, proc: Path = PROC) -> list[int]:
    """The process and all that descend from it."""
    found, new = [], [pid]
    while new:
        one = new.pop()
        found.append(one)
        with contextlib.suppress(OSError):
            for task in (proc / str(one) / "task").iterdir():
                with contextlib.suppress(OSError):
                    new += [int(child) for child in (task / "children").read_text().split()]
    return found


def read(groups: Mapping[str, Iterable[int]]) -> dict[str, Usage]:
    """Of each group of processes, all of them together."""
    return {name: sum((usage_of(pid) for pid in pids), Usage()) for name, pids in groups.items()}


def differences(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, Usage]:
    """What each group used between two readings."""
    return {name: usage.since(before.get(name, Usage())) for name, usage in after.items()}


def machine_ticks(text: str) -> tuple[int, int]:
    """(busy, all) ticks of all processors together, from the first line of /proc/stat: proc(5)."""
    ticks = [int(one) for one in text.splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


class Busyness:
    """How much of the machine's processors was in use since it was made."""

    def __init__(self) -> None:
        self._busy, self._all = machine_ticks((PROC / "stat").read_text())

    def share(self) -> float:
        """From 0 to 1."""
        busy, total = machine_ticks((PROC / "stat").read_text())
        return (busy - self._busy) / max(1, total - self._all)
