"""Why a release is not installed: one word for programs, a sentence for people, and when it may be otherwise."""

from datetime import datetime, timezone
from enum import Enum
from typing import NamedTuple


class Why(str, Enum):
    """In the order in which they are looked at."""

    NOT_ALLOWED = "not_allowed"
    DENIED = "denied"
    QUARANTINED = "quarantined"
    NOT_PINNED = "not_pinned"
    CHANNEL = "channel"
    REGION = "region"
    HARDWARE = "hardware"
    APPLIANCE = "appliance"
    OLDER = "older"
    WAVE = "wave"
    EXPIRED = "expired"
    PAUSED = "paused"
    RETRY = "retry"
    CONFLICT = "conflict"
    STOPPED = "stopped"
    BY_HAND = "by_hand"
    WINDOW = "window"
    DISK = "disk"


class Reason(NamedTuple):
    """``until_s``: when this reason ends by itself (Unix time), 0: it doesn't, or nobody knows."""

    why: Why
    words: str
    until_s: int = 0


def moment(at_s: int) -> str:
    """A Unix time in words that need no time zone."""
    try:
        return datetime.fromtimestamp(at_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "a time that no calendar has"
