import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.llama.speculate.draft_cache import DraftCache


def cache_with(agreed, guessed, **options):
    cache = DraftCache(**{"sequences": 2, "tokens": 100, **options})
    assert cache.room_for(1, agreed + len(guessed), {1}) == []
    held = cache.get(1)
    held.agreed, held.guessed = agreed, list(guessed)
    return cache


@pytest.mark.parametrize(
    ("guessed", "came", "agreed", "cut"),
    [
        ([], [5], 3, None),
        ([5, 6], [5, 6, 7], 5, None),
        ([5, 6], [5, 9], 4, 4),
        ([5, 6], [9], 3, 3),
        # What was right but is the last token has to be computed again for its logits.
        ([5, 6], [5, 6], 4, 4),
        ([5, 6], [5], 3, 3),
    ],
)
def test_settling_keeps_what_came_and_cuts_the_rest(guessed, came, agreed, cut):
    cache = cache_with(3, guessed)
    where = cache.settle(1, [1, 2, 3, *came])
    held = cache.get(1)
    assert (held.agreed, held.guessed) == (agreed, [])
    assert where == (None if cut is None else (held.seq_id, cut))


def test_nothing_came_because_the_step_failed():
    cache = cache_with(3, [5])
    assert cache.settle(1, [1, 2, 3]) == (cache.get(1).seq_id, 2)
    assert cache.get(1).agreed == 2


def test_who_is_not_held_has_nothing_to_settle_or_drop():
    cache = DraftCache(2, 10)
    assert cache.settle(1, [1, 2]) is None
    assert cache.drop(1) is None


def test_whoever_was_not_wanted_for_longest_goes_first():
    cache = DraftCache(sequences=4, tokens=30)
    ids = {}
    for key in (1, 2, 3):
        cache.room_for(key, 10, {key})
        cache.get(key).agreed = 10
        ids[key] = cache.get(key).seq_id
    cache.settle(1, list(range(20)))
    assert cache.room_for(4, 5, {4}) == [ids[2]]
    assert cache.get(2) is None
    assert cache.used == 20


def test_room_is_refused_rather_than_taken_from_those_to_keep():
    cache = cache_with(60, [])
    assert cache.room_for(2, 60, {1, 2}) is None
    assert cache.get(1).agreed == 60
    assert cache.get(2) is None


def test_sequence_ids_run_out():
    cache = DraftCache(sequences=2, tokens=100)
    assert cache.room_for(1, 1, {1, 2, 3}) == []
    assert cache.room_for(2, 1, {1, 2, 3}) == []
    assert cache.room_for(3, 1, {1, 2, 3}) is None
    freed = cache.get(1).seq_id
    assert cache.room_for(3, 1, {2, 3}) == [freed]
    assert cache.get(3).seq_id == freed


def test_more_than_everything_is_refused():
    assert DraftCache(2, 10).room_for(1, 11, {1}) is None


steps = st.lists(st.tuples(st.sampled_from(["room", "drop", "settle"]), st.integers(0, 5), st.integers(1, 12)))


@given(steps)
def test_ids_and_cells_are_never_given_twice(steps):
    cache, texts = DraftCache(3, 20), {}
    for what, key, count in steps:
        if what == "room" and cache.room_for(key, count, {key}) is not None:
            cache.get(key).agreed += count
            texts[key] = cache.get(key).agreed
        elif what == "drop":
            cache.drop(key)
        elif what == "settle" and cache.get(key):
            cache.settle(key, [0] * (texts[key] + count))
        held = [cache.get(k) for k in range(6) if cache.get(k)]
        assert cache.used <= 20
        assert len({h.seq_id for h in held}) == len(held) <= 3
    cache.drop_all()
    assert cache.used == 0
