"""When a maintenance window is open. What counts is what a clock on the wall shows.

So a window in the hour that is left out in spring is left out with it (one that only begins in it opens when that hour is
over), and one in the hour that comes twice in autumn opens twice.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, timezone, tzinfo
from itertools import chain
from pathlib import Path

from appliance import limits
from appliance.windows import Window

_DAY_S = 86_400


def is_open(windows: Sequence[Window], now_s: int, zone: tzinfo) -> bool:
    """Whether one of them is, or there are none at all."""
    local = _local(now_s, zone)
    return not windows or any(_holds(window, local) for window in windows)


def opens_s(windows: Sequence[Window], now_s: int, zone: tzinfo) -> int:
    """When the next one opens (Unix time), ``now_s`` when one is open; 0 when none does within two weeks."""
    if is_open(windows, now_s, zone):
        return now_s
    today = _local(now_s, zone).date()
    days = [today + timedelta(days=n) for n in range(limits.windows_ahead_days)]
    starts = (_starts(window, day, zone) for day in days for window in windows if day.weekday() in window.days)
    moments = chain(chain.from_iterable(starts), _jumps(now_s, zone))
    return min((at_s for at_s in moments if at_s > now_s and is_open(windows, at_s, zone)), default=0)


def machine_zone(path: Path = Path("/etc/localtime")) -> tzinfo:
    """The zone that the machine's administrator has set, UTC when there is none."""
    from zoneinfo import ZoneInfo  # only where there are windows

    try:
        with path.open("rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    except (OSError, ValueError):
        return timezone.utc


def _holds(window: Window, local: datetime) -> bool:
    minute = local.hour * 60 + local.minute
    today = local.weekday() in window.days
    if window.start < window.end:
        return today and window.start <= minute < window.end
    yesterday = (local.weekday() - 1) % 7 in window.days
    return (today and minute >= window.start) or (yesterday and minute < window.end)


def _starts(window: Window, day: date, zone: tzinfo) -> tuple[int, int]:
    """The moments when a clock on the wall shows the start, on that day: two different ones where an hour comes twice."""
    wall = datetime(day.year, day.month, day.day, window.start // 60, window.start % 60, tzinfo=zone)
    return int(wall.timestamp()), int(wall.replace(fold=1).timestamp())


def _jumps(now_s: int, zone: tzinfo) -> Iterator[int]:
    """The moments when the clock on the wall is put forward or back: a window may begin in the middle."""
    for day in range(limits.windows_ahead_days):
        low, high = now_s + day * _DAY_S, now_s + (day + 1) * _DAY_S
        before = _local(low, zone).utcoffset()
        if before == _local(high, zone).utcoffset():
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if _local(middle, zone).utcoffset() == before else (low, middle)
        yield high


def _local(at_s: int, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at_s, zone)
