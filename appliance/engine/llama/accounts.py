"""The engine's counters, in the terms of ModelStatistics: what was asked, how it ended, where the time went."""

import statistics
from collections import deque

import msgspec

from appliance.clock import Clock
from appliance.types import EngineStats

# "Now" in tokens a second and step time: long enough to be steady, short enough to see what a change did.
_WINDOW_NS = 5_000_000_000
_STEPS_KEPT = 128


class Accounts:
    """Counts; ``snapshot`` gives a copy."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stats = EngineStats()
        self._tokens_of_step = 0
        self._recent: deque[tuple[int, int]] = deque()
        self._steps: deque[int] = deque(maxlen=_STEPS_KEPT)

    # --- calls -------------------------------------------------------------------------------------------------------

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

    def tokens(self, read: int, written: int) -> None:
        """Tokens of a finished answer."""
        self._stats.tokens_in += read
        self._stats.tokens_out += written

    # --- the cache ---------------------------------------------------------------------------------------------------

    def prefix(self, reused: int) -> None:
        """An answer started with ``reused`` tokens of its prompt in the cache."""
        self._stats.prefix_hits += reused > 0
        self._stats.prefix_misses += reused == 0
        self._stats.prefix_tokens_saved += reused

    def preempted(self) -> None:
        """An answer gave its room back and waits again."""
        self._stats.preempted_count += 1

    # --- steps -------------------------------------------------------------------------------------------------------

    def computed(self, ns: int) -> None:
        """One batch was computed."""
        self._stats.execution_count += 1
        self._stats.compute_ns += ns

    def generated(self) -> None:
        """A token of an answer was chosen."""
        self._tokens_of_step += 1

    def drafted(self, guessed: int, right: int) -> None:
        """Of ``guessed`` tokens ``right`` were."""
        self._stats.drafted_tokens += guessed
        self._stats.accepted_tokens += right

    def stepped(self, ns: int) -> None:
        """A step of the language model took ``ns``, everything included."""
        now = self._clock.monotonic_ns()
        self._steps.append(ns)
        self._recent.append((now, self._tokens_of_step))
        self._tokens_of_step = 0
        self._forget(now)

    def _forget(self, now: int) -> None:
        while self._recent and self._recent[0][0] <= now - _WINDOW_NS:
            self._recent.popleft()

    def snapshot(self, *, waiting: int, running: int, kv: tuple[int, int, int] = (0, 0, 0)) -> EngineStats:
        """The counters now; ``kv`` is the cache's room, what is used of it, and what of that is only kept."""
        self._forget(self._clock.monotonic_ns())
        tokens = sum(count for _, count in self._recent)
        return msgspec.structs.replace(
            self._stats,
            waiting=waiting,
            running=running,
            kv_tokens=kv[0],
            kv_used=kv[1],
            kv_kept=kv[2],
            tokens_per_second=tokens / (_WINDOW_NS / 1e9),
            step_ns=int(statistics.median(self._steps)) if self._steps else 0,
        )
