"""What the draft model's KV cache holds for whom: plain bookkeeping, which says what to cut and whom to evict.

The cache follows each sequence a little behind: first its own tokens, then guesses that may have been wrong. Sequences
do not share prefixes here: a draft model is small, and who finds no room is merely not guessed for.
"""

from collections.abc import Collection, Sequence

import msgspec


class Held(msgspec.Struct):
    """``agreed`` tokens of the sequence are computed, then the ``guessed`` ones. ``turn``: when it was last wanted."""

    seq_id: int
    agreed: int = 0
    guessed: list[int] = []
    turn: int = 0

    @property
    def size(self) -> int:
        """Cells that it takes."""
        return self.agreed + len(self.guessed)


class DraftCache:
    """Sequence ids 0 to ``sequences`` - 1 and ``tokens`` cells, shared by whoever is guessed for."""

    def __init__(self, sequences: int, tokens: int) -> None:
        self._tokens = tokens
        self._free = list(range(sequences))
        self._held: dict[int, Held] = {}
        self._turn = 0

    @property
    def used(self) -> int:
        """Cells that are taken."""
        return sum(held.size for held in self._held.values())

    def get(self, key: int) -> Held | None:
        """What is held for ``key``."""
        return self._held.get(key)

    def settle(self, key: int, tokens: Sequence[int]) -> tuple[int, int] | None:
        """Compares the guesses with what came; gives (sequence id, first place to cut) when some were wrong."""
        held = self._held.get(key)
        if held is None:
            return None
        self._turn += 1
        held.turn = self._turn
        guessed, held.guessed = held.guessed, []
        # The last token is always computed again: its logits are the next guess.
        end = max(0, len(tokens) - 1)
        if held.agreed > end:
            held.agreed = end  # the step failed, and nothing came
            return held.seq_id, end
        came = tokens[held.agreed : min(end, held.agreed + len(guessed))]
        right = 0
        while right < len(came) and guessed[right] == came[right]:
            right += 1
        held.agreed += right
        return (held.seq_id, held.agreed) if right < len(guessed) else None

    def room_for(self, key: int, more: int, keep: Collection[int]) -> list[int] | None:
        """Makes room for ``more`` cells of ``key``: gives the sequence ids to clear, None if there is no room.

        Whoever was not wanted for longest goes first; those in ``keep`` stay.
        """
        held = self._held.get(key)
        others = sorted((h.turn, k) for k, h in self._held.items() if k != key and k not in keep)
        used, evicted = self.used, 0
        while used + more > self._tokens or (held is None and not self._free and not evicted):
            if evicted == len(others):
                return None
            used -= self._held[others[evicted][1]].size
            evicted += 1
        cleared = [self._held[k].seq_id for _, k in others[:evicted]]
        for _, other in others[:evicted]:
            self.drop(other)
        if held is None:
            self._turn += 1
            self._held[key] = Held(self._free.pop(), turn=self._turn)
        return cleared

    def drop(self, key: int) -> int | None:
        """Gives back what ``key`` had; gives the sequence id to clear."""
        held = self._held.pop(key, None)
        if held is None:
            return None
        self._free.append(held.seq_id)
        return held.seq_id

    def drop_all(self) -> None:
        """The whole cache was cleared."""
        for key in list(self._held):
            self.drop(key)
