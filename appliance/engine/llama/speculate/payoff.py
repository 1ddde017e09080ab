"""How many tokens to guess: pure arithmetic on how likely each guess is and what a longer step costs.

A step of n tokens takes t(n), and on most machines much more for two than for one: a guess that is wrong is time that
every sequence of the step waits for. So guesses go in, the likeliest first, where the expected tokens per time are most.
"""

from collections.abc import Callable, Sequence

from appliance import limits
from appliance.engine.llama.speculate.base import StepCost

# Expected gains below this are noise of the estimates. Measured by replaying answers of SmolLM2-135M: with 1.0 and 1.05
# seven sequences together lost 2 % and 1 % to guesses that barely seemed to pay, with 1.1 nothing; one alone won the same.
MARGIN = 1.1
# Nothing is certain; and without a bound, a long copy would one day make the whole step wait for one sequence.
PROBABILITY_MAX = 0.98
# Guesses less likely than this pay nowhere: a place in a batch is never so cheap.
_CHANCE_MIN = 0.02


def choose(
    chances: Sequence[Sequence[float]],
    tokens: int,
    cost: StepCost,
    extra_ns: Callable[[list[int]], float] | None = None,
) -> list[int]:
    """How many guesses of each sequence to put into a step that has ``tokens`` tokens without any.

    ``chances[i][k]``: the probability that guess k of sequence i and all before it are right, never rising with k.
    ``extra_ns`` tells what making the guesses costs, given for each depth k how many sequences guess so far.
    """
    counts = [0] * len(chances)
    # Falling probability, and for equal ones the first guesses first: so each sequence's guesses stay without gaps.
    offers = sorted((-p, depth, index) for index, row in enumerate(chances) for depth, p in enumerate(row) if p > 0)
    if not offers or tokens < 1:
        return counts
    best = MARGIN * tokens / max(1.0, cost.predict_ns(tokens))
    chosen, gain, depths = 0, float(tokens), [0] * (1 + max(offer[1] for offer in offers))
    for number, (negative, depth, _) in enumerate(offers[: limits.speculation_step_guesses_max], 1):
        gain -= negative
        depths[depth] += 1
        took = cost.predict_ns(tokens + number) + (extra_ns(depths) if extra_ns else 0.0)
        if gain > best * took:
            best, chosen = gain / max(1.0, took), number
    for _, _, index in offers[:chosen]:
        counts[index] += 1
    return counts


class Rates:
    """Shares of right guesses by class, each a mean that forgets: a weighted prior, then what was seen."""

    def __init__(self, classes: int, memory: float) -> None:
        """``memory``: about how many guesses of a class are remembered."""
        self._keep = 1.0 - 1.0 / memory
        self._right = [0.0] * classes
        self._seen = [0.0] * classes

    def saw(self, kind: int, right: bool) -> None:
        """One guess was right or wrong."""
        self._right[kind] = self._right[kind] * self._keep + right
        self._seen[kind] = self._seen[kind] * self._keep + 1.0

    def mean(self, kind: int, prior: float, weight: float) -> float:
        """The share of right ones, where ``prior`` counts as much as ``weight`` guesses."""
        return (self._right[kind] + prior * weight) / (self._seen[kind] + weight)


class Acceptance:
    """What is known of how often guesses are right: for each sequence, else for all of them, else the ``priors``.

    Classes are kinds of guesses that differ in quality (for look-ups: how long the match is), 0 the worst.
    """

    # Long enough to be stable, short enough to follow a change of the traffic or within a text.
    _ALL_MEMORY, _ALL_PRIOR_WEIGHT = 256.0, 8.0
    _ONE_MEMORY, _ONE_PRIOR_WEIGHT = 24.0, 4.0

    def __init__(self, priors: Sequence[float]) -> None:
        self._priors = tuple(priors)
        self._all = Rates(len(priors), self._ALL_MEMORY)
        self._ones: dict[int, Rates] = {}

    def saw(self, key: int, kind: int, right: bool) -> None:
        """A guess of class ``kind`` for sequence ``key`` was right or wrong; those after a wrong one tell nothing."""
        one = self._ones.get(key)
        if one is None:
            one = self._ones[key] = Rates(len(self._priors), self._ONE_MEMORY)
        one.saw(kind, right)
        self._all.saw(kind, right)

    def probability(self, key: int, kind: int) -> float:
        """That a guess of class ``kind`` for sequence ``key`` is right, if those before it are."""
        common = self._all.mean(kind, self._priors[kind], self._ALL_PRIOR_WEIGHT)
        one = self._ones.get(key)
        return min(PROBABILITY_MAX, one.mean(kind, common, self._ONE_PRIOR_WEIGHT) if one else common)

    def chances(self, key: int, kind: int, count: int) -> list[float]:
        """For each of ``count`` guesses: that it and all before it are right. Each right one raises the class by one.

        The row ends early where the rest is as good as impossible.
        """
        row: list[float] = []
        chance, top = 1.0, len(self._priors) - 1
        for step in range(kind, min(kind + count, top)):
            chance *= self.probability(key, step)
            if chance < _CHANCE_MIN:
                return row
            row.append(chance)
        if len(row) < count:
            last = self.probability(key, top)
            for _ in range(count - len(row)):
                chance *= last
                row.append(chance)
        return row

    def forget(self, key: int) -> None:
        """The sequence ended; what all have in common stays."""
        self._ones.pop(key, None)
