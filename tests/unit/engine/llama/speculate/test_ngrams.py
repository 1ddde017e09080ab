import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.engine.llama.speculate.ngrams import MATCH_MAX, MATCH_MIN, Match, NgramIndex, following

texts = st.lists(st.integers(0, 3), max_size=60)


def index_of(tokens, window=1000):
    index = NgramIndex(window)
    index.update(tokens, len(tokens))
    return index


@pytest.mark.parametrize(
    ("tokens", "match"),
    [
        ([], None),
        ([1], None),
        ([1, 2], None),
        ([1, 2, 3, 4], None),
        ([1, 1], None),
        ([1, 2, 3, 1, 2], Match(2, 2)),
        ([7, 1, 2, 3, 7, 1, 2], Match(3, 3)),
        # The longer match wins over the later one, the later one over the earlier one.
        ([9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2], Match(3, 3)),
        ([1, 2, 3, 1, 2, 4, 1, 2], Match(5, 2)),
        ([1, 1, 1], Match(2, 2)),
        ([1, 1, 1, 1], Match(3, 3)),
        (list(range(20)) * 2, Match(20, MATCH_MAX)),
    ],
)
def test_finds_the_longest_then_the_latest(tokens, match):
    assert index_of(tokens).find(tokens) == match


@pytest.mark.parametrize(
    ("tokens", "follower", "count", "guess"),
    [
        ([1, 2, 3, 1, 2], 2, 2, [3, 1]),
        ([1, 2, 3, 1, 2], 2, 7, [3, 1, 2, 3, 1, 2, 3]),
        ([5, 5, 5], 2, 4, [5, 5, 5, 5]),
        ([1, 2], 0, 1, [1]),
    ],
)
def test_follows_and_goes_round_where_the_text_ends(tokens, follower, count, guess):
    assert following(tokens, follower, count) == guess


@given(texts)
def test_what_it_finds_stood_there(tokens):
    match = index_of(tokens).find(tokens)
    length = 0 if match is None else match.length
    if match:
        assert MATCH_MIN <= length <= MATCH_MAX
        assert match.follower < len(tokens)
        assert tokens[match.follower - length : match.follower] == tokens[-length:]


@given(st.lists(st.integers(0, 2), max_size=limits.lookup_candidates_max + 2))
def test_nothing_longer_stood_anywhere(tokens):
    """Of texts so short that every place is compared."""
    match = index_of(tokens).find(tokens)
    for n in range(match.length + 1 if match else MATCH_MIN, MATCH_MAX + 1):
        assert tokens[-n:] not in [tokens[i : i + n] for i in range(len(tokens) - n)]


@given(texts, st.lists(st.integers(1, 9), max_size=30))
def test_growing_bit_by_bit_is_the_same_as_at_once(tokens, pieces):
    index, seen = NgramIndex(1000), 0
    for piece in pieces:
        seen = min(len(tokens), seen + piece)
        index.update(tokens[:seen], 1000)
        assert index.find(tokens[:seen]) == index_of(tokens[:seen]).find(tokens[:seen])


@given(st.lists(st.integers(0, 3), max_size=200), st.integers(2, 20))
def test_the_window_bounds_what_is_kept_and_matches_stay_true(tokens, window):
    index = NgramIndex(window)
    for end in range(len(tokens) + 1):
        index.update(tokens[:end], 5)
        assert len(index) <= 2 * window
        match = index.find(tokens[:end])
        if match:
            assert tokens[match.follower - match.length : match.follower] == tokens[end - match.length : end]


def test_a_long_text_is_taken_in_over_several_calls():
    tokens = list(range(100))
    index = NgramIndex(1000)
    assert index.update(tokens, 60) == 60
    assert not index.caught_up(tokens)
    assert index.update(tokens, 60) == 38  # the first two places have no pair before them
    assert index.caught_up(tokens)
    assert index.update(tokens, 60) == 0


def test_only_the_end_of_a_very_long_text_is_taken_in():
    tokens = [*range(50), 1, 2]
    index = NgramIndex(10)
    assert index.update(tokens, 1000) == 10
    assert index.find(tokens) is None


def test_a_prompt_is_indexed_in_a_moment():
    tokens = [n * n % 4001 for n in range(4000)]
    best = min(timed(tokens) for _ in range(5))
    assert best < 0.01  # 0.8 ms on two quiet cores; the machine of a test is rarely quiet


def timed(tokens):
    index, began = NgramIndex(), time.perf_counter()
    index.update(tokens, len(tokens))
    return time.perf_counter() - began
