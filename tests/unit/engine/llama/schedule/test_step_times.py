"""The line through measured steps: it finds what is behind noise, follows changes, and never says nonsense."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.llama.schedule.step_times import StepTimes


def fed(steps):
    times = StepTimes()
    for tokens, ns in steps:
        times.add(tokens, ns)
    return times


def test_it_finds_the_line_behind_the_noise():
    rng = random.Random(1)
    steps = [(n, (3.6e6 + 4.8e6 * n) * rng.uniform(0.9, 1.1)) for n in rng.choices([1, 8, 16, 24, 128], k=300)]
    times = fed(steps)
    for tokens in (1, 8, 16, 64, 128):
        assert times.predict_ns(tokens) == pytest.approx(3.6e6 + 4.8e6 * tokens, rel=0.1)


def test_steps_that_are_all_alike_are_predicted_and_the_slope_stays_plausible():
    times = StepTimes()
    times.anchor([(1, 8.4e6), (16, 80e6)])
    for _ in range(500):
        times.add(8, 44e6)
    assert times.predict_ns(8) == pytest.approx(44e6, rel=0.05)
    assert 2e6 < times.predict_ns(9) - times.predict_ns(8) < 9e6


def test_it_follows_when_the_machine_becomes_slower():
    times = fed([(n, 4e6 * n) for n in (1, 8, 16) * 50] + [(n, 12e6 * n) for n in (1, 8, 16) * 100])
    assert times.predict_ns(8) == pytest.approx(96e6, rel=0.1)


def test_before_anything_is_measured_it_says_what_was_assumed():
    times = StepTimes(first=2e6, each=1e6)
    assert times.predict_ns(10) == pytest.approx(12e6)
    assert times.tokens_within(12e6) == 10
    assert times.tokens_within(1e6) == 0


@given(st.lists(st.tuples(st.integers(1, 512), st.floats(1, 1e12)), max_size=30), st.integers(1, 512))
def test_predictions_are_positive_and_never_fall_with_more_tokens(steps, tokens):
    times = fed(steps)
    assert 0 < times.predict_ns(tokens) <= times.predict_ns(tokens + 1)
    assert times.tokens_within(times.predict_ns(tokens) * 1.0001) >= tokens - 1
