"""When the next poll comes. Pure: every box has its own place in the interval, and nothing brings all of them at one moment."""

from collections.abc import Callable, Iterator

from appliance import limits
from appliance.registry.sync import waves
from appliance.registry.sync.planner import SyncPlan
from appliance.registry.sync.reasons import Why


def after_failure_s(failures: int, poll_s: float, spread: Callable[[float, float], float]) -> float:
    """Seconds until it is tried again, after so many failures in a row: ever longer, up to the interval."""
    seconds = min(poll_s, limits.registry_retry_s_min * 2.0 ** min(failures - 1, 20))
    return seconds * spread(1 - limits.registry_poll_jitter, 1 + limits.registry_poll_jitter)


def next_poll_s(plan: SyncPlan, device: str, poll_s: float, now_s: float) -> float:
    """Seconds until the next poll: at this box's place in the interval, or when something that waits may go on."""
    seconds = waves.next_poll_s(device, poll_s, now_s) - now_s
    if seconds < poll_s * limits.registry_poll_jitter:  # it has just been there
        seconds += poll_s
    return min([seconds, *(max(1.0, at_s - now_s) for at_s in _goes_on_s(plan, device, poll_s))])


def _goes_on_s(plan: SyncPlan, device: str, poll_s: float) -> Iterator[float]:
    """Unix times. A window opens for all boxes at once: each begins a little later. Waves are met by polls."""
    for waiting in plan.waiting:
        if waiting.reason.why is Why.RETRY:
            yield waiting.reason.until_s
        elif waiting.reason.why is Why.WINDOW:
            yield waiting.reason.until_s + waves.share(device) * min(poll_s, limits.registry_window_spread_s)
