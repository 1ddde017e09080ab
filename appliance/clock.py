"""Time as a thing that can be handed in, so that tests of timing never wait."""

import time
from typing import Protocol


def monotonic_ms() -> int:
    """Milliseconds on CLOCK_MONOTONIC: what supervision counts in."""
    return time.monotonic_ns() // 1_000_000


class Clock(Protocol):
    """What the code below asks of time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds on CLOCK_MONOTONIC, which all processes of this machine share."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, as the machine believes it."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()


class FakeClock:
    """A clock that moves only when told to."""

    def __init__(self, monotonic_ns: int = 0, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._monotonic_ns = monotonic_ns
        self._wall_ns = wall_ns

    def monotonic_ns(self) -> int:
        return self._monotonic_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def advance(self, seconds: float) -> None:
        """Moves both clocks forward."""
        self._monotonic_ns += int(seconds * 1e9)
        self._wall_ns += int(seconds * 1e9)
