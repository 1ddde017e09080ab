"""Prompt look-up: what followed the last time that the text stood as it stands now.

Summaries, edited code, filled-in forms and answers that loop repeat what they have read; other text does not. Guesses are
made for every sequence and step, and compared with what came even when they were not computed: so it is known without
any cost when they would have been right, and nothing has to be tried out.
"""

from collections.abc import Sequence

import msgspec

from appliance import limits
from appliance.engine.llama.speculate.base import Speculation, StepCost, Wanted
from appliance.engine.llama.speculate.ngrams import MATCH_MAX, MATCH_MIN, NgramIndex, following
from appliance.engine.llama.speculate.payoff import Acceptance, choose

# How often a match of 2, 3, ... 8 tokens goes on the same way, before anything is known. Measured for seven greedy answers
# of SmolLM2-135M (summaries, code, prose, lists): 0.49, 0.67, 0.75, 0.84, 0.93, 0.80, 0.97; a little is taken off.
PRIORS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9)


class _Guess(msgspec.Struct):
    """``tokens`` were expected from place ``at`` on, after a match of ``length``."""

    tokens: list[int]
    at: int
    length: int


class _Known(msgspec.Struct):
    index: NgramIndex
    guess: _Guess | None = None


class LookupSpeculation(Speculation):
    """See the module. ``ends`` are the tokens that end a turn: no guess from there on is worth anything."""

    def __init__(self, ends: frozenset[int] = frozenset()) -> None:
        self._ends = ends
        self._known: dict[int, _Known] = {}
        self._acceptance = Acceptance(PRIORS)

    def propose(self, wanted: Sequence[Wanted], cost: StepCost, others: int = 0) -> list[list[int]]:
        room = limits.lookup_step_tokens_max
        # With many sequences none gets many guesses; twice its even part is plenty.
        deepest = min(limits.speculation_guesses_max, 2 * limits.speculation_step_guesses_max // max(1, len(wanted)))
        guesses: list[_Guess | None] = []
        chances: list[list[float]] = []
        for one in wanted:
            known = self._known.get(one.key) or self._new(one.key)
            guess = None
            if known:
                self._learn(one, known)
                room -= known.index.update(one.tokens, room)
                guess = known.guess = self._guess(one, known.index, deepest)
            guesses.append(guess)
            count = min(one.most, len(guess.tokens)) if guess else 0
            chances.append(self._acceptance.chances(one.key, guess.length - MATCH_MIN, count) if guess else [])
        counts = choose(chances, len(wanted) + others, cost)
        return [guess.tokens[:count] if guess else [] for guess, count in zip(guesses, counts, strict=True)]

    def judge(self, key: int, drafted: int, accepted: int) -> None:
        """Nothing to learn: the next call sees the tokens themselves."""

    def forget(self, key: int) -> None:
        self._known.pop(key, None)
        self._acceptance.forget(key)

    def close(self) -> None:
        self._known.clear()

    def _new(self, key: int) -> _Known | None:
        if sum(len(known.index) for known in self._known.values()) >= limits.lookup_tokens_max:
            return None
        return self._known.setdefault(key, _Known(NgramIndex()))

    def _learn(self, one: Wanted, known: _Known) -> None:
        """Compares the last guess with what has come since."""
        guess = known.guess
        if guess is None:
            return
        came = one.tokens[guess.at : guess.at + len(guess.tokens)]
        for depth, (expected, token) in enumerate(zip(guess.tokens, came)):  # noqa: B905 - less may have come
            kind = min(guess.length + depth, MATCH_MAX) - MATCH_MIN
            self._acceptance.saw(one.key, kind, expected == token)
            if expected != token:
                break

    def _guess(self, one: Wanted, index: NgramIndex, deepest: int) -> _Guess | None:
        match = index.find(one.tokens) if index.caught_up(one.tokens) else None
        if match is None:
            return None
        # At least one, to be compared, also where none may be computed.
        tokens = following(one.tokens, match.follower, max(1, min(one.most, deepest)))
        if not self._ends.isdisjoint(tokens):
            # Being right about the end saves no step: the answer is over when it is chosen.
            del tokens[next(place for place, token in enumerate(tokens) if token in self._ends) :]
        return _Guess(tokens, len(one.tokens), match.length) if tokens else None
