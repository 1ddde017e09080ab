"""What the engines of one version have done, over all the processes that there were. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec

from appliance.types import EngineStats

# How things stand now: these say nothing about a process that has ended.
_GAUGES = frozenset(
    {
        "waiting",
        "running",
        "kv_tokens",
        "kv_used",
        "kv_kept",
        "tokens_per_second",
        "step_ns",
        "sequences",
        "sequence_bytes",
    }
)
_LATEST = "last_inference_ms"
_SLOWEST = "step_ns"
_BY_SIZE = ("batch_sizes", "batch_ns", "latency")


def added(past: EngineStats, now: EngineStats) -> EngineStats:
    """Counters of both together, gauges of ``now``."""
    counters = [name for name in EngineStats.__struct_fields__ if name not in _GAUGES and name not in _BY_SIZE]
    total: dict[str, Any] = {name: getattr(past, name) + getattr(now, name) for name in counters}
    total[_LATEST] = max(past.last_inference_ms, now.last_inference_ms)
    for name in _BY_SIZE:
        total[name] = _merged(getattr(past, name), getattr(now, name))
    return msgspec.structs.replace(now, **total)


def together(instances: Sequence[EngineStats]) -> EngineStats:
    """What all instances of a version did and hold, added up. A step takes as long as the slowest one's."""
    total = EngineStats()
    for stats in instances:
        gauges = {name: getattr(total, name) + getattr(stats, name) for name in _GAUGES}
        gauges[_SLOWEST] = max(total.step_ns, stats.step_ns)
        total = msgspec.structs.replace(added(total, stats), **gauges)
    return total


def _merged(one: dict[int, int], other: dict[int, int]) -> dict[int, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted(one.keys() | other.keys())}


def folded(past: EngineStats, last: EngineStats) -> EngineStats:
    """The same once the last process has ended."""
    gauges: dict[str, int] = dict.fromkeys(_GAUGES, 0)
    return msgspec.structs.replace(added(past, last), **gauges)
