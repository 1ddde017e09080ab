"""What the engines of one version have done, over all the processes that there were. Pure."""

import msgspec

from appliance.types import EngineStats

# How things stand now: these say nothing about a process that has ended.
_GAUGES = frozenset({"waiting", "running", "kv_tokens", "kv_used", "kv_kept", "tokens_per_second", "step_ns"})
_LATEST = "last_inference_ms"


def added(past: EngineStats, now: EngineStats) -> EngineStats:
    """Counters of both together, gauges of ``now``."""
    counters = [name for name in EngineStats.__struct_fields__ if name not in _GAUGES]
    total = {name: getattr(past, name) + getattr(now, name) for name in counters}
    total[_LATEST] = max(past.last_inference_ms, now.last_inference_ms)
    return msgspec.structs.replace(now, **total)


def folded(past: EngineStats, last: EngineStats) -> EngineStats:
    """The same once the last process has ended."""
    gauges: dict[str, int] = dict.fromkeys(_GAUGES, 0)
    return msgspec.structs.replace(added(past, last), **gauges)
