"""A bound on bytes per second that all downloads share: a token bucket, whose rate may change while they run."""

import threading
import time
from collections.abc import Callable

from appliance.clock import Clock, SystemClock

# What may come at once after a pause. Short enough that a line sees an even load.
_BURST_SECONDS = 0.25
# Whoever waits looks so often whether the rate has changed, or whether nobody wants the bytes any more.
_LOOK_SECONDS = 0.25
_SLEEP_SECONDS_MIN = 0.001
# Smaller pieces than this cost more work than their evenness is worth.
_PIECE_BYTES_MIN = 16 * 1024


class Bandwidth:
    """``take`` from any thread. ``bytes_per_s`` 0: without bound."""

    def __init__(
        self, bytes_per_s: float = 0.0, clock: Clock | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._now = (clock or SystemClock()).monotonic_ns
        self._sleep = sleep
        self._lock = threading.Lock()
        self._rate = bytes_per_s
        self._tokens = bytes_per_s * _BURST_SECONDS
        self._counted_ns = self._now()

    def limit(self, bytes_per_s: float) -> None:
        """The rate from now on, also for whoever waits already. Without bound, nothing is owed any more."""
        with self._lock:
            self._refill()
            self._rate = bytes_per_s
            self._tokens = min(self._tokens, bytes_per_s * _BURST_SECONDS) if bytes_per_s > 0 else 0.0

    @property
    def kib_s(self) -> int:
        """The rate in KiB/s, 0: without bound."""
        return round(self._rate / 1024)

    def piece_bytes(self, most: int) -> int:
        """How much to read at once, at most ``most``: at a low rate no more than may come at once."""
        rate = self._rate
        return min(most, max(_PIECE_BYTES_MIN, int(rate * _BURST_SECONDS))) if rate > 0 else most

    def take(self, count: int, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Returns when ``count`` bytes, which have just come, fit into the rate: before that no more is to be read."""
        with self._lock:
            if self._rate <= 0:
                return
            self._refill()
            self._tokens -= count
        while (wait := self._owed_seconds()) > 0 and not cancelled():
            self._sleep(min(max(wait, _SLEEP_SECONDS_MIN), _LOOK_SECONDS))

    def _owed_seconds(self) -> float:
        with self._lock:
            self._refill()
            return -self._tokens / self._rate if self._rate > 0 else 0.0

    def _refill(self) -> None:
        now = self._now()
        gained = (now - self._counted_ns) / 1e9 * self._rate
        self._tokens = min(self._tokens + gained, self._rate * _BURST_SECONDS)
        self._counted_ns = now
