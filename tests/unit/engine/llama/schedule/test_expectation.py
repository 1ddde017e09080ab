"""The expected wait: nothing before anything is known, then the average stay of those ahead."""

import pytest

from appliance.engine.llama.schedule.expectation import Expectation, in_words

SECOND = 10**9


def test_nothing_is_known_before_a_call_has_ended():
    assert Expectation().wait_ns(100, 1) == 0


@pytest.mark.parametrize(("ahead", "running", "seconds"), [(0, 1, 2), (3, 1, 8), (7, 4, 4), (0, 0, 2), (0, 8, 0.25)])
def test_the_average_stay_of_those_ahead(ahead, running, seconds):
    expectation = Expectation()
    expectation.ended(5 * SECOND, 7 * SECOND)
    assert expectation.wait_ns(ahead, running) == pytest.approx(seconds * SECOND)


def test_recent_calls_weigh_more():
    expectation = Expectation()
    for _ in range(50):
        expectation.ended(0, SECOND)
    for _ in range(50):
        expectation.ended(0, 9 * SECOND)
    assert 8.5 * SECOND < expectation.wait_ns(0, 1) < 9 * SECOND


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (0.3, "0.3 s"), (12.4, "12 s"), (119, "119 s"), (240, "4 min")]
)
def test_in_words(seconds, words):
    assert in_words(int(seconds * SECOND)) == words
