"""The radix tree under random operations, against a simulator of llama.cpp's cells and a definition of each count."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from simulated_cells import SimulatedCells

from appliance.engine.llama.cache.nodes import Hold, Node
from appliance.engine.llama.cache.tree import PrefixTree, SeqIds

IDS = 9
SPACES = st.sampled_from(["", "german"])
# Two tokens and short lists, so that paths meet and part everywhere.
TOKENS = st.lists(st.integers(0, 1), max_size=7)


class Running:
    """A sequence: ``tokens`` are computed, of which the first ``shared`` are the tree's."""

    def __init__(self, seq_id: int, space: str, tokens: list[int], hold: Hold, shared: int) -> None:
        self.seq_id, self.space, self.tokens, self.hold, self.shared = seq_id, space, tokens, hold, shared


def nodes_of(tree: PrefixTree) -> list[Node]:
    found, todo = [], list(tree._roots.values())
    while todo:
        node = todo.pop()
        todo += node.children.values()
        if node.parent:
            found.append(node)
    return found


def tokens_to(node: Node) -> list[int]:
    parts: list[list[int]] = []
    step: Node | None = node
    while step:
        parts.append(step.tokens)
        step = step.parent
    return [token for part in reversed(parts) for token in part]


class TreeMachine(RuleBasedStateMachine):
    running = Bundle("running")

    def __init__(self) -> None:
        super().__init__()
        self.ids = SeqIds(IDS)
        self.tree = PrefixTree(self.ids)
        self.cells = SimulatedCells()
        self.live: list[Running] = []
        self.pins: list[tuple[str, list[int]]] = []

    # --- what happens ------------------------------------------------------------------------------------------------

    @rule(target=running, space=SPACES, tokens=TOKENS)
    def start(self, space: str, tokens: list[int]) -> object:
        if not self.ids.free:
            self.cells.carry_out(self.tree.evict_id())
        seq_id = self.ids.take()
        if seq_id is None:
            return multiple()
        reused = self.tree.longest(space, tokens, len(tokens) - 1)
        ops, hold = self.tree.share(space, tokens, max(reused, 0), seq_id)
        self.cells.carry_out(ops)
        self.cells.compute(seq_id, space, tokens, hold.length)
        self.live.append(Running(seq_id, space, list(tokens), hold, hold.length))
        return self.live[-1]

    @rule(one=running, more=TOKENS)
    def compute(self, one: Running, more: list[int]) -> None:
        if one in self.live:
            self.cells.compute(one.seq_id, one.space, one.tokens + more, len(one.tokens))
            one.tokens += more

    @rule(one=running)
    def publish(self, one: Running) -> None:
        if one in self.live:
            before = one.shared
            ops, one.hold, one.shared = self.tree.insert(one.space, one.tokens, one.seq_id, one.hold)
            self.cells.carry_out(ops)
            assert before <= one.shared == one.hold.length

    @rule(one=running)
    def publish_a_part(self, one: Running) -> None:
        if one in self.live:
            part = one.tokens[: (one.shared + len(one.tokens) + 1) // 2]
            ops, one.hold, one.shared = self.tree.insert(one.space, part, one.seq_id, one.hold)
            self.cells.carry_out(ops)

    @rule(one=consumes(running))
    def end(self, one: Running) -> None:
        if one in self.live:
            self.live.remove(one)
            self.cells.carry_out(self.tree.adopt(one.space, one.tokens, one.seq_id, one.hold))

    @rule(one=consumes(running))
    def end_without_a_trace(self, one: Running) -> None:
        if one in self.live:
            self.live.remove(one)
            tokens = self.tree.tokens
            self.cells.carry_out(self.tree.adopt(one.space, one.tokens[: one.shared], one.seq_id, one.hold))
            assert self.tree.tokens == tokens

    @rule(count=st.integers(0, 20))
    def evict(self, count: int) -> None:
        evictable, before = self.tree.evictable_tokens, len(self.cells.cells)
        ops, freed = self.tree.evict(count)
        self.cells.carry_out(ops)
        assert len(ops) <= freed
        assert freed == min(count, evictable) == before - len(self.cells.cells)

    @rule()
    def evict_id(self) -> None:
        free = self.ids.free
        ops = self.tree.evict_id()
        self.cells.carry_out(ops)
        assert self.ids.free == free + bool(ops)

    @rule(space=SPACES, tokens=TOKENS)
    def pin(self, space: str, tokens: list[int]) -> None:
        held = tokens[: self.tree.longest(space, tokens, len(tokens))]
        if len(self.pins) < 3:
            self.tree.pin(space, held)
            self.pins.append((space, held))

    @rule(sure=st.integers(0, 9))
    def clear(self, sure: int) -> None:
        if sure == 9:
            self.cells.carry_out(self.tree.clear())
            for one in self.live:
                self.cells.cells = [c for c in self.cells.cells if one.seq_id not in c[1]]
                self.ids.give(one.seq_id)
            assert self.cells.cells == []
            self.live.clear()
            self.pins.clear()

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def nodes_have_exactly_their_spans(self) -> None:
        for node in nodes_of(self.tree):
            path = tokens_to(node)
            space = next(s for s, root in self.tree._roots.items() if self._below(root, node))
            expected = [(space, tuple(path[:end])) for end in range(node.start + 1, node.end + 1)]
            assert expected
            assert self.cells.contents(node.seq_id) == expected

    @invariant()
    def sequences_have_exactly_their_tokens(self) -> None:
        for one in self.live:
            expected = [(one.space, tuple(one.tokens[:end])) for end in range(1, len(one.tokens) + 1)]
            assert self.cells.contents(one.seq_id) == expected

    @invariant()
    def cells_are_the_trees_or_one_sequences_own(self) -> None:
        own = sum(len(one.tokens) - one.shared for one in self.live)
        assert len(self.cells.cells) == self.tree.tokens + own
        assert self.tree.tokens == sum(len(node.tokens) for node in nodes_of(self.tree))

    @invariant()
    def ids_are_used_once_and_never_lost(self) -> None:
        used = [node.seq_id for node in nodes_of(self.tree)] + [one.seq_id for one in self.live]
        assert len(used) == len(set(used)) == IDS - self.ids.free
        assert set(used) == {seq_id for seq_id in range(IDS) if self.ids._taken[seq_id]}

    @invariant()
    def locked_is_what_somebody_needs(self) -> None:
        needed: set[tuple[str, tuple[int, ...]]] = set()
        pinned: set[tuple[str, tuple[int, ...]]] = set()
        for space, tokens in self.pins:
            pinned.update((space, tuple(tokens[:end])) for end in range(1, len(tokens) + 1))
        for one in self.live:
            needed.update((one.space, tuple(one.tokens[:end])) for end in range(1, one.hold.length + 1))
        held = {content for node in nodes_of(self.tree) for content in self.cells.contents(node.seq_id)}
        assert needed | pinned <= held
        assert self.tree.evictable_tokens == len(held - needed - pinned)
        assert self.tree.pinned_tokens == len(pinned)

    @staticmethod
    def _below(root: Node, node: Node) -> bool:
        step: Node | None = node
        while step and step is not root:
            step = step.parent
        return step is root

    def teardown(self) -> None:
        """When all have ended, everything can be had again but what is pinned."""
        for one in self.live:
            self.cells.carry_out(self.tree.adopt(one.space, one.tokens, one.seq_id, one.hold))
        ops, _ = self.tree.evict(10**6)
        self.cells.carry_out(ops)
        assert len(self.cells.cells) == self.tree.tokens == self.tree.pinned_tokens
        if not self.pins:
            assert self.ids.free == IDS


TestTreeMachine = TreeMachine.TestCase
TestTreeMachine.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("seed", range(5))
def test_the_longest_prefix_is_what_a_plain_search_finds(seed: int) -> None:
    draw = random.Random(seed)
    ids, cells = SeqIds(256), SimulatedCells()
    tree = PrefixTree(ids)
    kept: list[list[int]] = []
    for _ in range(60):
        tokens = [draw.randrange(3) for _ in range(draw.randrange(1, 30))]
        expected = max((_common_prefix(tokens, other) for other in kept), default=0)
        assert tree.longest("", tokens, len(tokens)) == expected
        seq_id = ids.take()
        assert seq_id is not None
        ops, hold = tree.share("", tokens, expected, seq_id)
        cells.carry_out(ops)
        cells.compute(seq_id, "", tokens, expected)
        cells.carry_out(tree.adopt("", tokens, seq_id, hold))
        kept.append(tokens)


def _common_prefix(one: list[int], other: list[int]) -> int:
    count = 0
    for mine, others in zip(one, other, strict=False):
        if mine != others:
            break
        count += 1
    return count
