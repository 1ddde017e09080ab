"""When to try again: exponential back-off with full jitter, and what the server says in Retry-After (RFC 9110, 10.2.3)."""

import datetime
import email.utils
from collections.abc import Callable

from appliance import limits


def pause_s(failures: int, retry_after_s: float, chance: Callable[[], float]) -> float | None:
    """Seconds before the next try after ``failures`` in a row (1, 2, …); None: give up.

    Never sooner than the server wants, and a little spread behind that: many clients were told the same time.
    """
    if failures >= limits.http_tries_max or retry_after_s > limits.http_retry_cap_s:
        return None
    ceiling = min(limits.http_retry_cap_s, limits.http_retry_base_s * 2.0 ** (failures - 1))
    return retry_after_s + chance() * ceiling


def retry_after_s(text: str, now_s: float) -> float:
    """Seconds of a Retry-After, from 0 to a day; 0 for what is none. ``now_s``: Unix time."""
    text = text.strip()
    if not text or len(text) > 100:
        return 0.0
    if text.isascii() and text.isdigit():
        return float(min(int(text), limits.http_retry_after_s_max))
    try:
        at = email.utils.parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=datetime.timezone.utc)
        seconds = at.timestamp() - now_s
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    return min(max(0.0, seconds), float(limits.http_retry_after_s_max))
