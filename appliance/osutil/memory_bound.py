"""What an engine process may take of the box: the kernel's own bounds, set by the process for itself.

RLIMIT_DATA makes malloc fail where the bound is met, so that a run which wants too much fails alone and its engine lives.
It counts memory that is mapped to be written, touched or not: so the bound is set from what there is after the load, and
not at all beside a CUDA driver, which maps far more than it uses. RLIMIT_AS would count files and reserved space as well.
The supervisor looks too (worker/memory_watch.py): native code that aborts, or a process at its bound, ends there.
"""

import contextlib
import resource
from pathlib import Path

from appliance import limits
from appliance.osutil import memory_room

_MIB = 1024 * 1024


def reserve_bytes(total: int) -> int:
    """What engines leave to everything else on a machine, or in a control group, with ``total`` bytes."""
    return min(total // 2, max(limits.memory_reserve_bytes_min, total // limits.memory_reserve_share))


def allowed_bytes(limit_mib: int, total: int) -> int:
    """The most that one engine may have: its model's own limit, or all but the reserve."""
    most = total - reserve_bytes(total)
    return min(most, limit_mib * _MIB) if limit_mib > 0 else most


def group_bytes(limit_mib: int, size_bytes: int) -> int:
    """What the kernel lets one engine's control group have (memory.max), 0: nothing of its own.

    Only past the bounds that the daemon keeps itself (worker/memory_watch.py), for what gets round them: twice the
    model's own limit, as while it loads, and its files, which count there while they are cached.
    """
    return 2 * limit_mib * _MIB + limits.engine_group_slack_bytes + size_bytes if limit_mib > 0 else 0


def data_limit(allowed: int, private: int, writable: int) -> int:
    """RLIMIT_DATA for a process that has ``private`` bytes now, with ``writable`` mapped, and may have ``allowed``."""
    return writable + max(0, allowed - private)


def die_first(path: Path = Path("/proc/self/oom_score_adj")) -> bool:
    """When the machine runs out of memory, the kernel takes an engine before anything else. False: it can't be set."""
    try:
        path.write_text(str(limits.engine_oom_score_adj))
    except OSError:
        return False
    return True


def bound(limit_mib: int) -> int:
    """Bounds this process from now on; returns the bytes that it already has beyond its limit, 0 as a rule."""
    room = memory_room.room()
    try:
        private = memory_room.private_bytes("self", room is not None and room.swaps)
        writable = memory_room.writable_bytes()
    except (OSError, ValueError):
        return 0
    if room is None:
        return 0
    allowed = allowed_bytes(limit_mib, room.total)
    if private > allowed:
        return private - allowed
    if not _has_cuda():
        _set(data_limit(allowed, private, writable))
    return 0


def _set(soft: int) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _has_cuda(maps: Path = Path("/proc/self/maps")) -> bool:
    try:
        return "/dev/nvidia" in maps.read_text(errors="replace")
    except OSError:
        return False
