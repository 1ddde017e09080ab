import pytest
from bench.schedule import SECOND_NS, Phases, due_times
from hypothesis import given
from hypothesis import strategies as st


def test_window_opens_after_the_warm_up():
    assert Phases(1.5, 2).window_ns(100) == (100 + 1_500_000_000, 100 + 3_500_000_000)


def test_calls_are_due_at_even_steps_up_to_the_end():
    assert list(due_times(1000, 4, 1000 + SECOND_NS)) == [1000, 250_001_000, 500_001_000, 750_001_000]


@given(st.floats(1, 5000), st.floats(0.01, 1.0))
def test_the_schedule_neither_drifts_nor_loses_a_call(rate, seconds):
    times = list(due_times(0, rate, round(seconds * SECOND_NS)))
    assert abs(len(times) - rate * seconds) <= 1.01
    assert all(abs(due - place * SECOND_NS / rate) <= 1 for place, due in enumerate(times))


@pytest.mark.parametrize("rate", [0, -1])
def test_a_rate_must_be_above_zero(rate):
    with pytest.raises(ValueError, match="above 0"):
        next(due_times(0, rate, SECOND_NS))
