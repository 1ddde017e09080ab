"""A registry's line, shared by all who download: each gets an equal part, and no more than its own link takes.

All flows have the same rate at a moment, so one number, the bytes that a flow has had since the beginning, tells when each
of them ends: an event costs the logarithm of their number, however many there are.
"""

import heapq


class SharedLine:
    """Rates in bytes a second. ``end_s`` is when the next flow ends, if none begins before."""

    def __init__(self, egress: float, link: float) -> None:
        self._egress = egress
        self._link = link
        self._now_s = 0.0
        self._had = 0.0
        self._flows: list[tuple[float, int]] = []

    @property
    def flows(self) -> int:
        return len(self._flows)

    @property
    def end_s(self) -> float:
        """Infinite when nobody downloads."""
        if not self._flows:
            return float("inf")
        return self._now_s + max(0.0, self._flows[0][0] - self._had) / self._rate()

    def begin(self, at_s: float, who: int, size: float) -> None:
        """Somebody begins to download ``size`` bytes. Times never go back."""
        self._pass(at_s)
        heapq.heappush(self._flows, (self._had + size, who))

    def end(self) -> tuple[float, int]:
        """The next flow that ends, and when."""
        at_s = self.end_s
        self._pass(at_s)
        had, who = heapq.heappop(self._flows)
        # Not what rounding made of it: small errors would add up over a hundred thousand flows.
        self._had = max(self._had, had)
        return at_s, who

    def _pass(self, at_s: float) -> None:
        if self._flows:
            self._had += (at_s - self._now_s) * self._rate()
        self._now_s = at_s

    def _rate(self) -> float:
        return min(self._link, self._egress / len(self._flows))
