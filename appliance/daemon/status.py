"""What `appliance status` shows, gathered from those who own it."""

import os
from collections.abc import Iterable

from appliance import __version__
from appliance.clock import monotonic_ms
from appliance.control import Route
from appliance.questions import DaemonStatus, ProcessStatus, VersionStatus
from appliance.versions import BadVersion, ModelVersion
from appliance.worker.child_keeper import ChildKeeper
from appliance.worker.engine_group import EngineGroup

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Counters:
    """What front-ends refused or lost, by "name:version": it never came to an engine's own counters."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.lost: dict[str, int] = {}

    def add(self, refused: dict[str, int], lost: dict[str, int]) -> None:
        """Adds what one front-end counted since its last beat."""
        for total, more in ((self.refused, refused), (self.lost, lost)):
            for key, count in more.items():
                total[key] = total.get(key, 0) + count


def version_status(
    model: ModelVersion,
    group: EngineGroup | None,
    route: Route,
    counters: Counters,
    probation_until_ms: int = 0,
    bad: BadVersion | None = None,
) -> VersionStatus:
    """One version's row."""
    key = f"{model.name}:{model.version}"
    status = VersionStatus(
        name=model.name,
        version=model.version,
        engine=model.spec.engine,
        state=route.state,
        active=route.active,
        digest=model.digest,
        size_bytes=model.size_bytes,
        reason=route.reason,
        refused=counters.refused.get(key, 0),
        lost=counters.lost.get(key, 0),
        service_class=model.spec.service_class,
        probation_until_ms=probation_until_ms,
        quarantine_reason=bad.reason if bad else "",
        beside=route.beside,
    )
    if group is not None:
        status.pids = group.pids
        status.pid = next(iter(group.pids), 0)
        status.memory_bytes = resident_bytes(*status.pids)
        status.uptime_ms = group.uptime_ms
        status.restarts = group.restarts
        status.stats = group.stats
        status.refused += status.stats.refused_count
        status.signature = group.signature
    return status


def daemon_status(
    started_ms: int,
    missing: tuple[str, ...],
    addresses: tuple[str, ...],
    state_dir: str,
    children: Iterable[ChildKeeper],
    models: Iterable[VersionStatus],
) -> DaemonStatus:
    """The whole answer; ``started_ms`` on CLOCK_MONOTONIC, ``missing`` the required models that take no calls."""
    now_ms = monotonic_ms()
    processes = [ProcessStatus("supervisor", os.getpid(), resident_bytes(os.getpid()), now_ms - started_ms)]
    for child in children:
        link = child.link
        pid = link.pid if link else 0
        uptime = now_ms - link.started_ms if link else 0
        processes.append(ProcessStatus(child.role, pid, resident_bytes(pid), uptime, child.restarts))
    return DaemonStatus(
        version=__version__,
        uptime_ms=now_ms - started_ms,
        ready=not missing,
        addresses=addresses,
        state_dir=state_dir,
        processes=tuple(processes),
        models=tuple(models),
        missing=missing,
    )


def resident_bytes(*pids: int) -> int:
    """Resident memory of processes of one kind: what they map of files they have in common, so the most of it counts once.

    A process that is not there has none.
    """
    found = [_resident_pages(pid) for pid in pids]
    own = sum(resident - shared for resident, shared in found)
    return (own + max((shared for _, shared in found), default=0)) * _PAGE_BYTES


def _resident_pages(pid: int) -> tuple[int, int]:
    """All, and those of files and shared memory among them (proc(5): statm's second and third field)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            fields = file.read().split()
        return int(fields[1]), int(fields[2])
    except (OSError, IndexError, ValueError):
        return 0, 0
