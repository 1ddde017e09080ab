"""This box's place among all: in the waves of a release, and in the interval between two polls. Stable, and no clock.

A hash spreads boxes without anybody knowing how many there are; another one for each version, so that it is not always the
same boxes that go first.
"""

import hashlib

from appliance.registry.release import Release
from appliance.registry.sync.reasons import Reason, Why, moment

STEPS = 10_000


def place(device: str, line: str, version: str) -> int:
    """From 0 to 9,999, the same for ever."""
    return _hash(device, line, version) % STEPS


def waits(release: Release, device: str, now_s: int) -> Reason | None:
    """Why the wave of this box has not come, None when it has. Of the waves that have begun only the latest counts.

    So a publisher can stop a release halfway: a new wave of 0 percent.
    """
    if not release.waves:
        return None
    mine = place(device, release.line, release.version)
    waves = sorted(release.waves, key=lambda wave: (wave.from_s, wave.percent))
    begun = [wave for wave in waves if wave.from_s <= now_s]
    if begun and mine < begun[-1].percent * (STEPS / 100):
        return None
    opens_s = next((w.from_s for w in waves if w.from_s > now_s and mine < w.percent * (STEPS / 100)), 0)
    if not opens_s:
        return Reason(Why.WAVE, "none of its waves reaches this box")
    return Reason(Why.WAVE, f"its wave for this box opens at {moment(opens_s)}", opens_s)


def share(device: str) -> float:
    """This box's place where all would do the same at once, from 0 to 1."""
    return _hash(device, "poll", "") % 1_000_003 / 1_000_003


def next_poll_s(device: str, poll_s: float, now_s: float) -> float:
    """When this box polls next: each has its own place in the interval, and keeps it across restarts.

    So boxes that get their power back together don't poll together, and nobody waits longer than one interval.
    """
    offset = share(device) * poll_s
    turns = (now_s - offset) // poll_s + 1
    return max(offset + turns * poll_s, now_s)


def _hash(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "big")
