"""Who has which cells of the KV cache: sequence ids, spans of positions, and the operations on them.

A cell of llama.cpp's unified cache holds the keys and values of one token at one position for a set of sequence ids,
and is free once that set is empty.
"""

import heapq

import msgspec


class Share(msgspec.Struct, frozen=True):
    """Give sequence ``target`` the cells that ``source`` has from position ``start`` to before ``end``."""

    source: int
    target: int
    start: int
    end: int


class Cut(msgspec.Struct, frozen=True):
    """Sequence ``seq_id`` lets go of its cells from position ``start`` to before ``end``; -1: of all that follow."""

    seq_id: int
    start: int
    end: int = -1


Op = Share | Cut


class Span(msgspec.Struct, frozen=True):
    """Positions ``start`` to before ``end``, whose cells sequence ``seq_id`` has."""

    seq_id: int
    start: int
    end: int


class PinnedPath(msgspec.Struct, frozen=True):
    """A pinned prefix, and where its cells are, in order."""

    space: str
    tokens: tuple[int, ...]
    spans: tuple[Span, ...]


class SeqIds:
    """The sequence ids of a context, 0 to ``count`` - 1, that nodes and running sequences take from."""

    def __init__(self, count: int) -> None:
        self.count = count
        # The smallest first, so that the same calls get the same ids.
        self._heap = list(range(count))
        self._taken = [False] * count

    @property
    def free(self) -> int:
        """How many can be taken."""
        return len(self._heap)

    def take(self) -> int | None:
        """An id that nobody has; None when all are taken."""
        if not self._heap:
            return None
        seq_id = heapq.heappop(self._heap)
        self._taken[seq_id] = True
        return seq_id

    def give(self, seq_id: int) -> None:
        """Takes an id back, whose cells are (or are about to be) cut. ValueError when it was not taken."""
        if not 0 <= seq_id < self.count or not self._taken[seq_id]:
            raise ValueError(f"sequence id {seq_id} is not taken")
        self._taken[seq_id] = False
        heapq.heappush(self._heap, seq_id)
