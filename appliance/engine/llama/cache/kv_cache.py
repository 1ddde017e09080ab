"""The KV cache of one context: who has which cells, how much room is left, and what is kept for prompts to come.

Every running sequence has a ``Seat``: a sequence id of its own, and how far its tokens are computed. What a seat shares
with the prefix tree is counted there; only what it has beyond that is its own. When it leaves, its tokens become the
tree's, until their room is needed: a conversation's next turn finds them, and so does a call that was set back.
"""

from collections.abc import Sequence

from appliance.engine.llama.cache.tree import Cut, Hold, Op, PrefixTree, SeqIds
from appliance.engine.llama.cache.tree import Share as ShareOp
from appliance.engine.llama.context import Context


class Seat:
    """``position`` tokens of the sequence are computed, of which the first ``shared`` are counted in the tree."""

    def __init__(self, seq_id: int, space: str, hold: Hold | None, position: int) -> None:
        self.seq_id = seq_id
        self.space = space
        self.hold = hold
        self.position = position
        self.shared = position


class KvCache:
    """Owns the sequence ids and the cells of ``context``, which has ``tokens`` of them.

    ``shares`` False, for models that keep one state instead of a cell for each token (recurrent ones) and for
    reproducible answers: nothing is shared and nothing is kept.
    """

    def __init__(self, context: Context, tokens: int, sequences: int, *, shares: bool) -> None:
        self.tokens = tokens
        self.shares = shares
        self._context = context
        self._ids = SeqIds(sequences)
        self.tree = PrefixTree(self._ids)
        self._seats: set[Seat] = set()

    # --- room --------------------------------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """Cells that are taken."""
        return self.tree.tokens + sum(seat.position - seat.shared for seat in self._seats)

    @property
    def kept(self) -> int:
        """Cells that only wait for a prompt that begins the same."""
        return self.tree.evictable_tokens

    @property
    def free(self) -> int:
        """Cells that nobody has."""
        return self.tokens - self.used

    @property
    def room(self) -> int:
        """Cells that can be had: free, or kept only."""
        return self.free + self.kept

    def make_room(self, tokens: int) -> bool:
        """Evicts what has not been used for longest until ``tokens`` cells are free; False when that is not enough."""
        lacking = tokens - self.free
        if lacking > 0:
            ops, _ = self.tree.evict(lacking)
            self._do(ops)
        return self.free >= tokens

    # --- running sequences -------------------------------------------------------------------------------------------

    def reusable(self, space: str, tokens: Sequence[int]) -> int:
        """How many of a prompt's tokens are computed already; the last never counts, for its logits are wanted."""
        return self.tree.longest(space, tokens, len(tokens) - 1) if self.shares and tokens else 0

    def enter(self, space: str, tokens: Sequence[int]) -> Seat | None:
        """A seat with as much of ``tokens`` as is computed already; None when there is no sequence id left."""
        if self._ids.free == 0:
            self._do(self.tree.evict_id())
        seq_id = self._ids.take()
        if seq_id is None:
            return None
        if not self.shares and not self._seats:
            # The first answer after a pause finds the cells as the first of all did, in the same order.
            self._context.clear()
        reused = self.reusable(space, tokens)
        hold = None
        if self.shares:
            ops, hold = self.tree.share(space, tokens, reused, seq_id)
            self._do(ops)
        seat = Seat(seq_id, space, hold, reused)
        self._seats.add(seat)
        return seat

    def publish(self, seat: Seat, tokens: Sequence[int]) -> None:
        """Lets others have what ``seat`` has computed so far of ``tokens``, while it goes on."""
        if not self.shares or seat.hold is None or seat.position <= seat.shared:
            return
        ops, seat.hold, inserted = self.tree.insert(seat.space, tokens[: seat.position], seat.seq_id, seat.hold)
        self._do(ops)
        seat.shared = max(seat.shared, inserted)

    def cut(self, seat: Seat, position: int) -> None:
        """Forgets what ``seat`` has from ``position`` on, which must not be less than it shares."""
        if not self._context.cut(seat.seq_id, position):
            # One state instead of a cell for each token: all or nothing. It is computed again.
            self._context.cut(seat.seq_id, 0)
            position = 0
        seat.position = position

    def leave(self, seat: Seat, tokens: Sequence[int]) -> None:
        """Gives the seat back; what it computed of ``tokens`` stays for prompts that begin the same."""
        self._seats.remove(seat)
        if seat.hold is None:
            self._context.cut(seat.seq_id, 0)
            self._ids.give(seat.seq_id)
            return
        # Guesses that were not taken may lie behind.
        self._context.cut(seat.seq_id, seat.position)
        self._do(self.tree.adopt(seat.space, tokens[: seat.position], seat.seq_id, seat.hold))

    def _do(self, ops: Sequence[Op]) -> None:
        for op in ops:
            if isinstance(op, ShareOp):
                self._context.share(op.source, op.target, op.start, op.end)
            elif isinstance(op, Cut):
                self._context.cut(op.seq_id, op.start, op.end)
