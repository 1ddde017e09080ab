"""How long a step of n tokens takes: a straight line through what was measured, the recent weighing more.

On a processor a step costs a little for being one and much for each token (SmolLM2-135M Q4_1, two cores: 3.6 ms and
4.8 ms a token); on a GPU it is the other way round. Both are straight enough for the decisions made of it: how much of
a prompt rides along (plan.py), and whether a guess pays (speculate/).
"""

_DECAY = 0.98
# A point's weight falls with its size: an error of 10 % should count the same for a step of 1 and of 128 tokens.
_RIDGE = 1e-3


class StepTimes:
    """Feed it with ``add``; before that it says what ``first`` and ``each`` (nanoseconds) say."""

    def __init__(self, first: float = 5e6, each: float = 5e6) -> None:
        self._sums = [0.0] * 5  # weight, w*n, w*n*n, w*t, w*n*t
        self._base = first
        self._slope = each
        # Three points that never fade, so that a stretch of steps that are all alike still leaves a line.
        self._anchors = [(1, first + each), (16, first + 16 * each), (128, first + 128 * each)]

    def anchor(self, points: list[tuple[int, float]]) -> None:
        """Replaces the assumed points by (tokens, nanoseconds) that were measured, for instance at load."""
        self._anchors = list(points)
        self._fit()

    def add(self, tokens: int, ns: float) -> None:
        """A step of ``tokens`` took ``ns``."""
        weight = 1.0 / (tokens * tokens)
        sums = self._sums
        for place, value in enumerate((1.0, tokens, tokens * tokens, ns, tokens * ns)):
            sums[place] = sums[place] * _DECAY + weight * value
        self._fit()

    def predict_ns(self, tokens: int) -> float:
        """What a step of so many tokens will take, in nanoseconds; above 0."""
        return self._base + self._slope * tokens

    def tokens_within(self, ns: float) -> int:
        """How many tokens a step of ``ns`` may have; 0 when not even one fits."""
        return max(0, int((ns - self._base) / self._slope))

    def _fit(self) -> None:
        w, wn, wnn, wt, wnt = self._sums
        for tokens, ns in self._anchors:
            weight = _RIDGE / (tokens * tokens)
            w, wn, wnn = w + weight, wn + weight * tokens, wnn + weight * tokens * tokens
            wt, wnt = wt + weight * ns, wnt + weight * tokens * ns
        spread = w * wnn - wn * wn
        if spread <= 0:
            return
        slope = (w * wnt - wn * wt) / spread
        base = (wt - slope * wn) / w
        # Noise may tip the line; time never runs backwards.
        if base < 0:
            slope, base = wnt / wnn, 0.0
        self._slope, self._base = max(slope, 1.0), base
