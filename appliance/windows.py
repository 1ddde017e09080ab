"""Maintenance windows as operators write them: "22:00-05:00" for every day, "sat,sun 00:00-24:00" for some.

Only what was written; what it means for a moment in time is in registry/sync/windows.py.
"""

import re
from typing import NamedTuple

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = frozenset(range(len(DAYS)))
DAY_MINUTES = 24 * 60
_TEXT = re.compile(r"(?:([a-z,]+) )?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})")


class Window(NamedTuple):
    """Minutes of the local day; ``end`` is not part of it. One that ends before it starts ends on the next day.

    ``days``: those that it starts on, 0 is Monday.
    """

    start: int
    end: int
    days: frozenset[int] = EVERY_DAY

    @property
    def minutes(self) -> int:
        """How long it lasts on a day that has 24 hours."""
        return (self.end - self.start) % DAY_MINUTES or DAY_MINUTES

    def __str__(self) -> str:
        days = "" if self.days == EVERY_DAY else ",".join(DAYS[day] for day in sorted(self.days)) + " "
        return f"{days}{_clock(self.start)}-{_clock(self.end)}"


def parse(text: str) -> Window:
    """Raises ValueError that says what is wrong."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError('must be a time from and to, as in "22:00-05:00", or days and a time: "sat,sun 00:00-24:00"')
    start, end = _minutes(found[2], found[3]), _minutes(found[4], found[5])
    if start == DAY_MINUTES:
        raise ValueError("a window starts at 23:59 at the latest; 24:00 is only an end")
    if start == end:
        raise ValueError("it ends when it starts; the whole day is 00:00-24:00")
    return Window(start, end, _days(found[1]) if found[1] else EVERY_DAY)


def _days(text: str) -> frozenset[int]:
    names = text.split(",")
    wrong = next((name for name in names if name not in DAYS), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is no day; days are {', '.join(DAYS)}")
    return frozenset(DAYS.index(name) for name in names)


def _minutes(hours: str, minutes: str) -> int:
    total = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or total > DAY_MINUTES:
        raise ValueError(f"{hours}:{minutes} is no time of the day")
    return total


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"
