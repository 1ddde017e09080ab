"""When things happen in a run: warm-up, measured window, and the due time of each call of an open loop."""

from collections.abc import Iterator
from dataclasses import dataclass

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Phases:
    """Warm-up and measured seconds of one run."""

    warmup_s: float
    duration_s: float

    def window_ns(self, start_ns: int) -> tuple[int, int]:
        """First and last moment of the measured window of a run that starts at ``start_ns``."""
        opens = start_ns + round(self.warmup_s * SECOND_NS)
        return opens, opens + round(self.duration_s * SECOND_NS)


def due_times(start_ns: int, rate: float, end_ns: int) -> Iterator[int]:
    """Moments at which an open loop must send, ``rate`` a second, until ``end_ns``.

    Each is counted from the start and not from the call before it, so that neither rounding nor a late generator moves
    the later ones: a stall of the server is felt by every call that was due meanwhile (no coordinated omission).
    """
    if rate <= 0:
        raise ValueError(f"rate must be above 0 calls/s, got {rate:g}")
    index = 0
    while (due := start_ns + round(index * SECOND_NS / rate)) < end_ns:
        yield due
        index += 1
