"""What an ONNX engine has done, in the terms of ModelStatistics: each call counts the times of the run that it was in."""

import time
from typing import NamedTuple

import msgspec

from appliance import limits
from appliance.types import EngineStats


class Times(NamedTuple):
    """Moments of one run on CLOCK_MONOTONIC: taken from the queue, inputs put together, run, outputs written."""

    started_ns: int
    fed_ns: int
    ran_ns: int
    written_ns: int

    @property
    def compute_ns(self) -> int:
        """All but the wait in the queue."""
        return self.written_ns - self.started_ns


class Counters:
    """EngineStats in the making."""

    def __init__(self) -> None:
        self._stats = EngineStats()
        self._sizes: dict[int, int] = {}
        self._size_ns: dict[int, int] = {}

    def ran(self, calls: int, rows: int, queue_ns: int, size: int, times: Times) -> None:
        """One execution of ``size`` rows, ``rows`` of which were answers to ``calls`` calls that waited ``queue_ns``."""
        stats = self._stats
        compute_ns = calls * times.compute_ns
        stats.success_count += calls
        stats.success_ns += queue_ns + compute_ns
        stats.queue_ns += queue_ns
        stats.compute_ns += compute_ns
        stats.compute_input_ns += calls * (times.fed_ns - times.started_ns)
        stats.compute_output_ns += calls * (times.written_ns - times.ran_ns)
        stats.inference_count += rows
        stats.execution_count += 1
        stats.last_inference_ms = int(time.time() * 1000)
        if size > limits.batch_sizes_exact_max:
            size = 1 << (size - 1).bit_length()
        self._sizes[size] = self._sizes.get(size, 0) + 1
        self._size_ns[size] = self._size_ns.get(size, 0) + times.ran_ns - times.fed_ns

    def failed(self, spent_ns: int) -> None:
        """A call ended with an error."""
        self._stats.fail_count += 1
        self._stats.fail_ns += max(0, spent_ns)

    def cancelled(self, calls: int) -> None:
        """Nobody waits for these any more."""
        self._stats.cancel_count += calls

    def stats(self, waiting: int) -> EngineStats:
        """A copy."""
        return msgspec.structs.replace(
            self._stats, waiting=waiting, batch_sizes=dict(self._sizes), batch_ns=dict(self._size_ns)
        )
