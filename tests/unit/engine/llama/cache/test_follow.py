"""When a prompt waits for another that computes the same beginning."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.engine.llama.cache.follow import worth_waiting

SYSTEM = list(range(100, 500))
LEAST = limits.follow_tokens_min


@pytest.mark.parametrize(
    ("reusable", "computed", "waits"),
    [
        (0, 0, True),  # they came together
        (0, 128, True),  # the leader is on its way
        (128, 128, True),  # and has published what it has
        (0, 400, False),  # it is past what they share: nothing to wait for
        (400, 450, False),
        (400 - LEAST, 300, True),
        (401 - LEAST, 300, False),  # too little to gain
    ],
)
def test_a_prompt_with_the_same_system_message(reusable, computed, waits):
    leader = [*SYSTEM, 1, 2, 3]
    assert worth_waiting([*SYSTEM, 7, 8], reusable, [(leader, computed)]) == waits


def test_the_last_token_is_always_computed_by_oneself():
    prompt = list(range(LEAST))
    assert not worth_waiting(prompt, 0, [(prompt, 0)])
    assert worth_waiting([*prompt, 5], 0, [([*prompt, 5], 0)])


def test_any_leader_will_do():
    assert worth_waiting([*SYSTEM, 7], 0, [([1, 2], 0), (SYSTEM, 10)])
    assert not worth_waiting([*SYSTEM, 7], 0, [([1, 2], 0), ([3], 0)])
    assert not worth_waiting([*SYSTEM, 7], 0, [])


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=60)


@given(tokens, tokens, st.integers(0, 60), st.integers(0, 60))
def test_waiting_always_comes_to_an_end(prompt, leader, reusable, computed):
    """Once the leader has computed all that they share, nobody waits for it."""
    if worth_waiting(prompt, reusable, [(leader, computed)]):
        assert not worth_waiting(prompt, reusable, [(leader, len(leader))])
