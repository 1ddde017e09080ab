"""When a child that died is started again: okay-delay, capped exponential back-off with jitter, restart budget.

Pure: deaths and the time come in, a decision comes out.
"""

import random
from typing import NamedTuple

from appliance import limits


class Decision(NamedTuple):
    """Start again after ``delay_ms``, or ``give_up``."""

    delay_ms: int
    give_up: bool


class RestartPolicy:
    """The history of one child. A child that stayed up for the okay-delay is forgiven its back-off, not its budget."""

    def __init__(self, restarts_max: int | None, random_source: random.Random | None = None) -> None:
        """``restarts_max`` deaths within limits.restart_window_ms are the budget; None: never give up."""
        self._restarts_max = restarts_max
        self._random = random_source or random.Random()  # noqa: S311 - jitter, not a secret
        self._deaths_ms: list[int] = []
        self._backoff_ms = limits.restart_backoff_ms_min

    def died(self, now_ms: int, up_ms: int) -> Decision:
        """Decides about a child that died at ``now_ms`` after ``up_ms`` of life."""
        self._deaths_ms = [t for t in self._deaths_ms if now_ms - t < limits.restart_window_ms]
        self._deaths_ms.append(now_ms)
        if self._restarts_max is not None and len(self._deaths_ms) > self._restarts_max:
            return Decision(0, give_up=True)
        if up_ms >= limits.okay_delay_ms:
            self._backoff_ms = limits.restart_backoff_ms_min
        delay = self._backoff_ms
        self._backoff_ms = min(2 * self._backoff_ms, limits.restart_backoff_ms_max)
        # Half of it at random, so that children that died together don't come back together.
        return Decision(delay // 2 + self._random.randrange(delay // 2 + 1), give_up=False)
