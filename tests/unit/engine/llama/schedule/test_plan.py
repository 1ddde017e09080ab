"""Which tokens go into a step: answers first, prompts within their time, half of it to the oldest."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.engine.llama.schedule.plan import PREFILL_STRETCH, PREFILL_TOKENS_MIN, Share, plan_step, prefill_budget
from appliance.engine.llama.schedule.step_times import StepTimes


@dataclass
class Some:
    waiting: int
    prefilling: bool


def P(waiting):  # noqa: N802 - reads like the table that it is in
    return Some(waiting, prefilling=True)


D = Some(1, prefilling=False)


@pytest.mark.parametrize(
    ("sequences", "budget", "capacity", "shares"),
    [
        ([], 8, 64, []),
        ([P(5)], 8, 64, [Share(0, 5, True)]),
        ([P(20)], 8, 64, [Share(0, 8, False)]),
        ([D, D], 8, 64, [Share(0, 1, True), Share(1, 1, True)]),
        # Answers come before prompts, whatever the order of their start.
        ([P(9), D, D], 8, 64, [Share(1, 1, True), Share(2, 1, True), Share(0, 8, False)]),
        # Half to the oldest, the rest to the shortest.
        ([P(100), P(100), P(3)], 10, 64, [Share(0, 7, False), Share(2, 3, True)]),
        ([P(2), P(100)], 10, 64, [Share(0, 2, True), Share(1, 8, False)]),
        # What the oldest leaves of its half goes on to the others, and what the others leave comes back.
        ([P(100), P(1)], 10, 64, [Share(0, 9, False), Share(1, 1, True)]),
        # The batch's room holds for all together.
        ([D, P(100)], 10, 4, [Share(0, 1, True), Share(1, 3, False)]),
        ([D, D, D], 10, 2, [Share(0, 1, True), Share(1, 1, True)]),
        ([P(100)], 0, 64, []),
    ],
)
def test_the_shares_of_a_step(sequences, budget, capacity, shares):
    assert plan_step(sequences, budget, capacity) == shares


sequences = st.lists(st.builds(Some, st.integers(1, 300), st.just(True)) | st.just(D), max_size=40)


@given(sequences, st.integers(1, 128), st.integers(1, 512))
def test_every_plan_keeps_its_bounds_and_always_gets_on(sequences, budget, capacity):
    shares = plan_step(sequences, budget, capacity)
    prompts = [s for s in shares if sequences[s.index].prefilling]
    assert sum(s.count for s in shares) <= capacity
    assert sum(s.count for s in prompts) <= budget
    assert len({s.index for s in shares}) == len(shares)
    for share in shares:
        assert 0 < share.count <= sequences[share.index].waiting
        assert share.last == (share.count == sequences[share.index].waiting)
    assert bool(shares) == bool(sequences)
    oldest = next((i for i, s in enumerate(sequences) if s.prefilling), None)
    if oldest is not None and len(shares) - len(prompts) < capacity:
        assert any(s.index == oldest for s in prompts)


def times(first_ms, each_ms):
    made = StepTimes()
    made.anchor([(1, (first_ms + each_ms) * 1e6), (100, (first_ms + 100 * each_ms) * 1e6)])
    return made


@pytest.mark.parametrize(
    ("decoding", "first_ms", "each_ms", "budget"),
    [
        (0, 3.6, 4.8, 128),  # nobody is disturbed
        (8, 3.6, 6.0, 8),  # 52 ms alone, 93 ms allowed: the least
        (1, 3.6, 4.8, 14),  # 8.4 ms alone; 80 ms are allowed whatever it takes alone
        (16, 500.0, 100.0, 17),  # a large model on a small box
        (1, 2.0, 0.02, 128),  # a GPU: as much as a step may have
        (4, 0.0, 1000.0, PREFILL_TOKENS_MIN),  # never less than this
    ],
)
def test_the_budget_of_prompts_beside_answers(decoding, first_ms, each_ms, budget):
    found = prefill_budget(decoding, times(first_ms, each_ms), limits.prefill_step_tokens_max)
    assert abs(found - budget) <= 1


@pytest.mark.parametrize(("nearly_done", "budget"), [(0, 14), (1, 14), (2, 30), (7, 114), (50, 128)])
def test_many_prompts_that_are_nearly_done_beside_one_answer(nearly_done, budget):
    assert abs(prefill_budget(1, times(3.6, 4.8), 128, nearly_done) - budget) <= 1


def test_one_that_is_nearly_done_is_no_reason_to_slow_many():
    line = times(3.6, 4.8)
    assert prefill_budget(8, line, 128, 8) == prefill_budget(8, line, 128)


@given(st.integers(1, 64), st.floats(0, 50), st.floats(0.01, 20))
def test_a_step_with_prompts_stays_within_its_stretch(decoding, first_ms, each_ms):
    line = times(first_ms, each_ms)
    budget = prefill_budget(decoding, line, 128)
    allowed = max(PREFILL_STRETCH * line.predict_ns(decoding), limits.prefill_step_ms_min * 1e6)
    assert budget == PREFILL_TOKENS_MIN or line.predict_ns(decoding + budget) <= allowed * 1.001
