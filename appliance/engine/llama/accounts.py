"""The engine's counters, in the terms of ModelStatistics: what was asked, how it ended, where the time went."""

import msgspec

from appliance.clock import Clock
from appliance.types import EngineStats


class Accounts:
    """Counts; ``snapshot`` gives a copy."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stats = EngineStats()

    def succeeded(self, arrived_ns: int, started_ns: int) -> None:
        """A call was answered."""
        self._stats.success_count += 1
        self._stats.inference_count += 1
        self._stats.success_ns += self._clock.monotonic_ns() - arrived_ns
        self._stats.queue_ns += started_ns - arrived_ns
        self._stats.last_inference_ms = self._clock.wall_ns() // 1_000_000

    def failed(self, arrived_ns: int) -> None:
        """A call that had been taken ended with an error."""
        self._stats.fail_count += 1
        self._stats.fail_ns += self._clock.monotonic_ns() - arrived_ns

    def cancelled(self) -> None:
        """The client went away."""
        self._stats.cancel_count += 1

    def computed(self, ns: int) -> None:
        """One batch was computed."""
        self._stats.execution_count += 1
        self._stats.compute_ns += ns

    def tokens(self, read: int, written: int) -> None:
        """Tokens of a finished call."""
        self._stats.tokens_in += read
        self._stats.tokens_out += written

    def snapshot(self, *, waiting: int, running: int) -> EngineStats:
        """The counters now."""
        return msgspec.structs.replace(self._stats, waiting=waiting, running=running)
