"""Calls with someone who waits for their answer: until when, and whether anybody still does."""

from collections.abc import Iterable
from typing import Protocol

from appliance.engine.base import Reply
from appliance.errors import DeadlineExceeded


class Waiter(Protocol):
    """A call with someone who waits for its answer."""

    reply: Reply
    deadline_ns: int


def expired(waiter: Waiter, now_ns: int) -> bool:
    """Whether the call's deadline has passed."""
    return 0 < waiter.deadline_ns <= now_ns


def gone(waiter: Waiter, now_ns: int) -> bool:
    """Whether nobody wants the answer any more."""
    return waiter.reply.cancelled or expired(waiter, now_ns)


def wanted_until(waiters: Iterable[Waiter]) -> int:
    """When the last of the deadlines passes, on CLOCK_MONOTONIC in nanoseconds; 0: one of them has none."""
    deadlines = [waiter.deadline_ns for waiter in waiters]
    return max(deadlines) if deadlines and all(deadlines) else 0


def too_late(where: str) -> DeadlineExceeded:
    """The answer to a call whose deadline has passed."""
    return DeadlineExceeded(f"the deadline passed {where}; ask for fewer tokens or allow more time")
