"""A simulator of llama.cpp's unified KV cache: cells with a position and a set of sequence ids, as in llama-kv-cache.cpp.

Instead of keys and values a cell has what they depend on: the adapter and all the tokens up to its own.
"""

from collections.abc import Iterable, Sequence

from appliance.engine.llama.cache.tree import Op, Share

Content = tuple[str, tuple[int, ...]]


class SimulatedCells:
    """``cells``: the content and the sequence ids of each cell that is not free."""

    def __init__(self) -> None:
        self.cells: list[tuple[Content, set[int]]] = []

    def compute(self, seq_id: int, space: str, tokens: Sequence[int], start: int) -> None:
        """A decode: a new cell for each of ``tokens`` from ``start`` on. The positions must go on where they end."""
        assert [len(tokens) for _, tokens in self.contents(seq_id)] == list(range(1, start + 1))
        for end in range(start + 1, len(tokens) + 1):
            self.cells.append(((space, tuple(tokens[:end])), {seq_id}))

    def carry_out(self, ops: Iterable[Op]) -> None:
        """Shares and cuts, in their order."""
        for op in ops:
            if isinstance(op, Share):
                assert 0 <= op.start < op.end
                mine = {len(tokens) - 1 for _, tokens in self.contents(op.target)}
                assert not mine & set(range(op.start, op.end)), f"{op} gives positions twice"
            for (_, tokens), ids in self.cells:
                if isinstance(op, Share):
                    if op.source in ids and op.start < len(tokens) <= op.end:
                        ids.add(op.target)
                elif len(tokens) > op.start and (op.end < 0 or len(tokens) <= op.end):
                    ids.discard(op.seq_id)
            self.cells = [cell for cell in self.cells if cell[1]]

    def contents(self, seq_id: int) -> list[Content]:
        """What the sequence has, by position."""
        return sorted((content for content, ids in self.cells if seq_id in ids), key=lambda content: len(content[1]))
