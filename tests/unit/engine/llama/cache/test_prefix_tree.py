"""The radix tree: what it shares, adds, adopts and evicts, case by case, over a simulator of llama.cpp's cells."""

import pytest
from simulated_cells import SimulatedCells

from appliance.engine.llama.cache.tree import Cut, Hold, PrefixTree, SeqIds, Share

A, B, C, D, E, F, G, H = range(8)


class Bench:
    """A tree, its ids and the cells, with what a running sequence does to them."""

    def __init__(self, ids: int = 16) -> None:
        self.ids = SeqIds(ids)
        self.tree = PrefixTree(self.ids)
        self.cells = SimulatedCells()

    def start(self, tokens: list[int], space: str = "") -> tuple[int, Hold]:
        """A sequence with as much of ``tokens`` as is there, the rest computed."""
        seq_id = self.ids.take()
        assert seq_id is not None
        held = self.tree.longest(space, tokens, len(tokens))
        ops, hold = self.tree.share(space, tokens, held, seq_id)
        self.cells.carry_out(ops)
        self.cells.compute(seq_id, space, tokens, held)
        return seq_id, hold

    def keep(self, tokens: list[int], space: str = "") -> None:
        """A sequence that computes ``tokens`` and ends."""
        seq_id, hold = self.start(tokens, space)
        self.cells.carry_out(self.tree.adopt(space, tokens, seq_id, hold))

    def evict(self, tokens: int) -> int:
        ops, freed = self.tree.evict(tokens)
        before = len(self.cells.cells)
        self.cells.carry_out(ops)
        assert before - len(self.cells.cells) == freed
        return freed


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("asked", "most", "expected"),
    [
        ([A, B, C, D], 4, 4),
        ([A, B, C, D, E], 5, 4),
        ([A, B, C, D], 3, 3),
        ([A, B, C, D], 0, 0),
        ([A, B], 100, 2),
        ([A, B, X := 99, D], 4, 2),
        ([A, B, E, F, G], 5, 4),
        ([X], 1, 0),
        ([], 0, 0),
    ],
)
def test_the_longest_computed_prefix(bench: Bench, asked: list[int], most: int, expected: int) -> None:
    bench.keep([A, B, C, D])
    bench.keep([A, B, E, F])
    assert bench.tree.longest("", asked, most) == expected


def test_an_empty_tree_holds_nothing(bench: Bench) -> None:
    assert bench.tree.longest("", [A], 1) == 0
    assert (bench.tree.tokens, bench.tree.evictable_tokens, bench.tree.pinned_tokens) == (0, 0, 0)
    assert bench.tree.evict(5) == ([], 0)
    assert bench.tree.evict_id() == []


def test_tokens_of_any_sequence_type(bench: Bench) -> None:
    bench.keep([A, B, C, D])
    assert bench.tree.longest("", (A, B, C, E), 4) == 3


def test_adapters_share_nothing(bench: Bench) -> None:
    bench.keep([A, B, C], "german")
    assert bench.tree.longest("german", [A, B, C], 3) == 3
    assert bench.tree.longest("", [A, B, C], 3) == 0
    bench.keep([A, B, C])
    assert bench.tree.tokens == 6


def test_an_ended_sequence_gives_its_id_to_the_node(bench: Bench) -> None:
    seq_id, hold = bench.start([A, B, C])
    assert bench.tree.adopt("", [A, B, C], seq_id, hold) == []
    assert bench.ids.free == 15
    assert bench.tree.share("", [A, B, C], 3, 9)[0] == [Share(seq_id, 9, 0, 3)]


def test_an_ended_sequence_with_nothing_new_is_cut(bench: Bench) -> None:
    bench.keep([A, B, C])
    seq_id, hold = bench.start([A, B, C])
    assert bench.tree.adopt("", [A, B, C], seq_id, hold) == [Cut(seq_id, 0)]
    assert bench.ids.free == 15


def test_a_conversation_stays_one_node(bench: Bench) -> None:
    for length in (2, 4, 6):
        bench.keep(list(range(length)))
    assert bench.ids.free == 15
    assert bench.tree.tokens == 6
    assert len(bench.cells.cells) == 6


def test_others_share_while_the_first_still_runs(bench: Bench) -> None:
    first, hold = bench.start([A, B, C])
    ops, hold, inserted = bench.tree.insert("", [A, B, C], first, hold)
    bench.cells.carry_out(ops)
    assert inserted == 3
    second, _ = bench.start([A, B, C, D])
    assert len(bench.cells.cells) == 4
    assert len(bench.cells.contents(second)) == 4
    bench.cells.compute(first, "", [A, B, C, E], 3)
    bench.cells.carry_out(bench.tree.adopt("", [A, B, C, E], first, hold))
    assert bench.tree.longest("", [A, B, C, E], 4) == 4


def test_what_two_computed_at_once_is_kept_once(bench: Bench) -> None:
    (one, hold_one), (two, hold_two) = bench.start([A, B, C]), bench.start([A, B, C])
    assert len(bench.cells.cells) == 6
    bench.cells.carry_out(bench.tree.insert("", [A, B, C], one, hold_one)[0])
    ops, _, inserted = bench.tree.insert("", [A, B, C], two, hold_two)
    bench.cells.carry_out(ops)
    assert inserted == 3
    assert len(bench.cells.cells) == 3
    assert bench.cells.contents(two) == bench.cells.contents(one)


@pytest.mark.parametrize("ids", [1, 2])
def test_without_a_free_id_a_sequence_keeps_its_own(ids: int) -> None:
    bench = Bench(ids)
    for _ in range(ids):
        seq_id, hold = bench.start([A, B])
    ops, hold, inserted = bench.tree.insert("", [A, B], seq_id, hold)
    assert (ops, inserted, hold.length, bench.tree.tokens) == ([], 0, 0, 0)


def test_a_sequence_that_ends_without_a_free_id_for_the_split_leaves_nothing_new() -> None:
    bench = Bench(2)
    bench.keep([A, B, C])
    seq_id = bench.ids.take()
    assert seq_id is not None
    # The node is held beyond the fork by somebody else, so it cannot be dropped for its id.
    _, other = bench.tree.share("", [A, B, C], 3, 1)
    ops, hold = bench.tree.share("", [A, B, C], 2, seq_id)
    bench.cells.carry_out(ops)
    bench.cells.compute(seq_id, "", [A, B, D], 2)
    bench.cells.carry_out(bench.tree.adopt("", [A, B, D], seq_id, hold))
    assert bench.tree.longest("", [A, B, D], 3) == 2
    assert bench.ids.free == 1
    bench.tree.release(other)


def test_insert_makes_an_id_free_by_dropping_what_is_oldest() -> None:
    bench = Bench(4)
    bench.keep([A, B])
    bench.keep([C, D])
    bench.keep([E, F])
    seq_id, hold = bench.start([G, H])
    ops, _, inserted = bench.tree.insert("", [G, H], seq_id, hold)
    bench.cells.carry_out(ops)
    assert inserted == 2
    assert [bench.tree.longest("", t, 2) for t in ([A, B], [C, D], [E, F], [G, H])] == [0, 2, 2, 2]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_leaf_is_trimmed_from_its_end(bench: Bench, count: int) -> None:
    bench.keep([A, B, C, D, E])
    assert bench.evict(count) == count
    assert bench.tree.longest("", [A, B, C, D, E], 5) == 5 - count
    assert bench.ids.free == 15


def test_an_empty_node_gives_its_id_back(bench: Bench) -> None:
    bench.keep([A, B])
    assert bench.evict(100) == 2
    assert bench.ids.free == 16
    assert bench.cells.cells == []


def test_the_least_recently_used_goes_first(bench: Bench) -> None:
    bench.keep([A, B])
    bench.keep([C, D])
    bench.keep([A, B])
    assert bench.evict(2) == 2
    assert bench.tree.longest("", [A, B], 2) == 2
    assert bench.tree.longest("", [C, D], 2) == 0


def test_sharing_is_using(bench: Bench) -> None:
    bench.keep([A, B])
    bench.keep([C, D])
    _, hold = bench.tree.share("", [A, B], 2, 9)
    bench.tree.release(hold)
    bench.evict(2)
    assert bench.tree.longest("", [A, B], 2) == 2


def test_parents_go_after_their_children(bench: Bench) -> None:
    bench.keep([A, B, C, D])
    bench.keep([A, B, E, F])
    assert bench.evict(5) == 5
    assert bench.tree.longest("", [A, B], 2) == 1


def test_looking_is_not_using(bench: Bench) -> None:
    bench.keep([A, B])
    bench.keep([C, D])
    bench.tree.longest("", [A, B], 2)
    bench.evict(2)
    assert bench.tree.longest("", [A, B], 2) == 0


def test_a_held_part_stays_and_the_rest_of_the_node_goes(bench: Bench) -> None:
    bench.keep([A, B, C, D])
    _, hold = bench.tree.share("", [A, B, C, D], 2, 9)
    assert bench.tree.evictable_tokens == 2
    assert bench.evict(100) == 2
    assert bench.tree.longest("", [A, B], 2) == 2
    bench.tree.release(hold)
    assert bench.evict(100) == 2


def test_a_hold_survives_the_split_of_its_node(bench: Bench) -> None:
    bench.keep([A, B, C, D])
    _, short = bench.tree.share("", [A, B], 2, 9)
    _, long = bench.tree.share("", [A, B, C], 3, 10)
    bench.keep([A, B, E])
    assert bench.tree.evictable_tokens == 2
    bench.tree.release(long)
    assert bench.tree.evictable_tokens == 3
    bench.tree.release(short)
    assert bench.tree.evictable_tokens == 5


def test_pinned_tokens_stay_and_are_counted_once(bench: Bench) -> None:
    bench.keep([A, B, C, D])
    bench.keep([A, B, E, F])
    for _ in range(2):
        bench.tree.pin("", [A, B, C])
        bench.tree.pin("", [A, B, E, F])
    assert bench.tree.pinned_tokens == 5
    assert bench.evict(100) == 1
    assert bench.tree.longest("", [A, B, C, D], 4) == 3
    assert bench.tree.evict_id() == []


def test_pinned_paths_say_where_their_cells_are(bench: Bench) -> None:
    bench.keep([A, B, C, D])
    bench.tree.pin("", [A, B, C])
    (path,) = bench.tree.pinned()
    assert path.tokens == (A, B, C)
    assert [(s.start, s.end) for s in path.spans] == [(0, 3)]
    bench.keep([A, E])
    (path,) = bench.tree.pinned()
    assert [(s.start, s.end) for s in path.spans] == [(0, 1), (1, 3)]
    for span in path.spans:
        cells = bench.cells.contents(span.seq_id)[: span.end - span.start]
        assert [content[1] for content in cells] == [(A, B, C)[:end] for end in range(span.start + 1, span.end + 1)]


def test_evict_id_drops_a_whole_leaf(bench: Bench) -> None:
    bench.keep([A, B])
    bench.keep([C, D, E])
    ops = bench.tree.evict_id()
    assert len(ops) == 1
    bench.cells.carry_out(ops)
    assert bench.tree.tokens == 3
    assert bench.ids.free == 15


def test_clear_forgets_all(bench: Bench) -> None:
    bench.keep([A, B, C])
    bench.tree.pin("", [A])
    _, hold = bench.tree.share("", [A, B], 2, 9)
    bench.cells.carry_out(bench.tree.clear())
    assert bench.cells.cells == []
    assert bench.ids.free == 16
    assert (bench.tree.tokens, bench.tree.evictable_tokens, bench.tree.pinned()) == (0, 0, [])
    with pytest.raises(ValueError, match="released already"):
        bench.tree.release(hold)


def test_sharing_more_than_is_held(bench: Bench) -> None:
    bench.keep([A, B])
    with pytest.raises(ValueError, match="2 tokens of the 3"):
        bench.tree.share("", [A, B, C], 3, 9)
    with pytest.raises(ValueError, match="2 tokens of the 3"):
        bench.tree.pin("", [A, B, C])
    assert bench.tree.evictable_tokens == 2


def test_tokens_that_are_not_the_holds(bench: Bench) -> None:
    bench.keep([A, B])
    seq_id, hold = bench.start([A, B, C])
    with pytest.raises(ValueError, match="hold is of 2 tokens"):
        bench.tree.insert("", [A, C], seq_id, hold)
    with pytest.raises(ValueError, match="hold is of 2 tokens"):
        bench.tree.adopt("", [A], seq_id, hold)


def test_a_hold_ends_once(bench: Bench) -> None:
    _, hold = bench.tree.share("", [], 0, 9)
    bench.tree.release(hold)
    with pytest.raises(ValueError, match="released already"):
        bench.tree.release(hold)


def test_ids_come_smallest_first_and_back_once() -> None:
    ids = SeqIds(3)
    assert [ids.take() for _ in range(4)] == [0, 1, 2, None]
    ids.give(2)
    ids.give(0)
    assert (ids.free, ids.take()) == (2, 0)
    for wrong in (2, 3, -1):
        with pytest.raises(ValueError, match="is not taken"):
            ids.give(wrong)
