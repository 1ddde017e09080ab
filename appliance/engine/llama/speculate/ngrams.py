"""Where in a sequence its last tokens stood before: an index over pairs of tokens with chains, as LZ77 has them.

One dictionary of pairs is enough for matches of any length: earlier places of the same pair are linked, newest first,
and each is compared backwards with the end of the text. So a new token costs one insertion, not one for each n.
"""

from array import array
from collections.abc import Sequence

import msgspec

from appliance import limits

# Shorter than a pair says nothing: single tokens repeat in any text. Beyond the most, a longer match predicts no better.
MATCH_MIN = 2
MATCH_MAX = 8


class Match(msgspec.Struct, frozen=True):
    """The last ``length`` tokens (MATCH_MAX: or more) also stand before place ``follower``."""

    follower: int
    length: int


class NgramIndex:
    """The pairs of one growing sequence. ``window`` bounds how far back it remembers, and so its memory."""

    def __init__(self, window: int = limits.lookup_window_tokens) -> None:
        self._window = window
        # Pair -> the last place after it; for each place from _start on, the place before it with the same pair.
        self._last: dict[tuple[int, int], int] = {}
        self._before = array("i")
        self._start = MATCH_MIN

    def __len__(self) -> int:
        """Places remembered."""
        return len(self._before)

    def update(self, tokens: Sequence[int], most: int) -> int:
        """Takes in at most ``most`` new places; gives how many it took. ``tokens`` begins as it did the last time."""
        if not self._before:
            self._start = max(MATCH_MIN, len(tokens) - self._window)
        first = self._start + len(self._before)
        end = min(len(tokens), first + most)
        if end <= first:
            return 0
        last, before = self._last, self._before
        if end - first == 1:  # nearly always: one token a step, and no slices for it
            pair = (tokens[first - 2], tokens[first - 1])
            before.append(last.get(pair, -1))
            last[pair] = first
            return 1
        pairs = zip(tokens[first - 2 : end - 2], tokens[first - 1 : end - 1], strict=True)
        for place, pair in enumerate(pairs, first):
            before.append(last.get(pair, -1))
            last[pair] = place
        if len(before) > 2 * self._window:
            self._forget_old()
        return end - first

    def caught_up(self, tokens: Sequence[int]) -> bool:
        """Whether all of ``tokens`` is known."""
        return self._start + len(self._before) >= len(tokens)

    def _forget_old(self) -> None:
        """Only now and then, so that it costs nothing for each token."""
        old = len(self._before) - self._window
        self._start += old
        del self._before[:old]
        self._last = {pair: place for pair, place in self._last.items() if place >= self._start}

    def find(self, tokens: Sequence[int]) -> Match | None:
        """The longest match for the end of ``tokens``, of equally long ones the latest; None if not even a pair is."""
        end = len(tokens)
        if end < MATCH_MIN:
            return None
        place = self._last.get((tokens[-2], tokens[-1]), -1)
        best, longest = -1, MATCH_MIN - 1
        for _ in range(limits.lookup_candidates_max):
            if place < self._start:
                break
            length = MATCH_MIN
            while length < MATCH_MAX and length < place and tokens[place - 1 - length] == tokens[end - 1 - length]:
                length += 1
            if length > longest:
                best, longest = place, length
                if length == MATCH_MAX:
                    break
            place = self._before[place - self._start]
        return Match(best, longest) if best >= 0 else None


def following(tokens: Sequence[int], follower: int, count: int) -> list[int]:
    """``count`` tokens from place ``follower`` on; where the text ends, it goes on as if it repeated itself from there."""
    guess = list(tokens[follower : follower + count])
    period = len(tokens) - follower
    while len(guess) < count:
        guess.append(guess[-period])
    return guess
