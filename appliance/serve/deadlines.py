"""When a call must be answered: the client's gRPC deadline or its ``timeout`` parameter, whichever comes first."""

import time

import grpc

from appliance.errors import ApplianceError, Cancelled, DeadlineExceeded

# Beyond this many seconds a deadline is none; gRPC says "no deadline" with a very large number.
_FAR_SECONDS = 10 * 365 * 86400.0


def deadline_ns(remaining_seconds: float | None, timeout_us: int, now_ns: int) -> int:
    """The deadline on CLOCK_MONOTONIC in nanoseconds; 0: none. Raises DeadlineExceeded when it has passed already."""
    deadline = 0
    if remaining_seconds is not None and remaining_seconds < _FAR_SECONDS:
        if remaining_seconds <= 0:
            raise DeadlineExceeded("the request's deadline had passed before it was looked at")
        deadline = now_ns + int(remaining_seconds * 1e9)
    if timeout_us:
        asked = now_ns + timeout_us * 1000
        deadline = min(deadline, asked) if deadline else asked
    return deadline


def of_call(context: grpc.ServicerContext, timeout_us: int = 0) -> int:
    """The deadline of a running call; see ``deadline_ns``."""
    return deadline_ns(context.time_remaining(), timeout_us, time.monotonic_ns())


def why_cancelled(deadline: int, now_ns: int) -> ApplianceError:
    """What a cancelled call is told: gRPC ends a call the same way for a deadline and for a client that left."""
    if deadline and now_ns >= deadline:
        return DeadlineExceeded("the request's deadline passed before the answer was there")
    return Cancelled("the caller cancelled this request")
