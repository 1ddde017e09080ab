import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.engine.llama.speculate.payoff import MARGIN, PROBABILITY_MAX, Acceptance, Rates, choose


class Line:
    """first + each * n, in milliseconds."""

    def __init__(self, first=3.6, each=4.8):
        self.first, self.each = first, each

    def predict_ns(self, tokens):
        return 1e6 * (self.first + self.each * tokens)


class Steps:
    """A machine that computes tokens eight at a time: seven more cost nothing."""

    def predict_ns(self, tokens):
        return 1e6 * math.ceil(tokens / 8)


CPU, GPU = Line(), Line(8.0, 0.05)


def powers(p, count):
    return [p**k for k in range(1, count + 1)]


@pytest.mark.parametrize(
    ("p", "sequences", "cost", "guesses"),
    [
        # (1 + p) / 13.2 ms against 1 / 8.4 ms: one guess pays from 0.57 on, with the margin from 0.73.
        (0.5, 1, CPU, 0),
        (0.72, 1, CPU, 0),
        (0.75, 1, CPU, 1),
        (0.98, 1, CPU, 7),
        # A step of 8 is nearly as dear for each token as a longer one: even certainty would bring little.
        (0.8, 8, CPU, 0),
        (0.9, 8, CPU, 0),
        # Where a longer step costs nothing, everything pays that may well be right.
        (0.5, 1, GPU, 6),
        (0.2, 1, GPU, 3),
        (0.1, 1, GPU, 0),
        (0.9, 1, Steps(), 7),
        (0.0, 1, GPU, 0),
    ],
)
def test_guesses_where_it_pays(p, sequences, cost, guesses):
    assert choose([powers(p, 16)] * sequences, sequences, cost) == [guesses] * sequences


def test_looks_past_a_step_that_does_not_pay_alone():
    class Jump:
        """The second token doubles the time, five more are for nothing."""

        def predict_ns(self, tokens):
            return 1e6 if tokens == 1 else 2e6

    assert choose([powers(0.8, 6)], 1, Jump()) == [6]


def test_the_likeliest_go_first():
    assert choose([powers(0.5, 8), powers(0.97, 8)], 2, CPU) == [0, 5]
    assert choose([powers(0.97, 8), [], powers(0.5, 8)], 2, CPU) == [5, 0, 0]


def test_other_tokens_of_the_step_make_guesses_dearer():
    assert choose([powers(0.8, 8)], 1, CPU)[0] > 0
    assert choose([powers(0.8, 8)], 100, CPU)[0] == 0


def test_what_guessing_costs_counts():
    def free(depths):
        return 0.0

    def dear(depths):
        return 3e6 * sum(1 for sequences in depths if sequences)

    assert choose([powers(0.9, 8)], 1, CPU, free) == choose([powers(0.9, 8)], 1, CPU)
    assert choose([powers(0.9, 8)], 1, CPU, free)[0] > choose([powers(0.9, 8)], 1, CPU, dear)[0]


@pytest.mark.parametrize("chances", [[], [[]], [[], []], [[0.0, 0.0]]])
def test_nothing_to_offer(chances):
    assert choose(chances, len(chances), CPU) == [0] * len(chances)


def test_the_guesses_of_a_step_are_bounded():
    counts = choose([powers(0.98, 16)] * 30, 30, Line(1e6, 0.001))
    assert sum(counts) == limits.speculation_step_guesses_max


def test_a_cost_of_nothing_is_no_division_by_zero():
    assert choose([[0.5]], 1, Line(0, 0)) in ([0], [1])


rows = st.lists(st.floats(0, 1), max_size=8).map(lambda row: sorted(row, reverse=True))


@given(st.lists(rows, max_size=6), st.integers(0, 5), st.floats(0.1, 20), st.floats(0, 20))
def test_the_choice_is_never_worse_than_none(chances, others, first, each):
    tokens, cost = len(chances) + others, Line(first, each)
    counts = choose(chances, tokens, cost)
    assert len(counts) == len(chances)
    assert all(0 <= count <= len(row) for count, row in zip(counts, chances, strict=True))
    if any(counts):
        gain = tokens + sum(sum(row[:count]) for row, count in zip(chances, counts, strict=True))
        rate = gain / cost.predict_ns(tokens + sum(counts))
        assert rate >= MARGIN * tokens / cost.predict_ns(tokens) * (1 - 1e-9)


# --- acceptance ------------------------------------------------------------------------------------------------------


def test_rates_begin_with_the_prior_and_end_with_what_was_seen():
    rates = Rates(1, memory=20)
    assert rates.mean(0, 0.5, 4) == 0.5
    for _ in range(200):
        rates.saw(0, right=True)
    assert rates.mean(0, 0.5, 4) > 0.9
    for _ in range(60):
        rates.saw(0, right=False)
    assert rates.mean(0, 0.5, 4) < 0.15


def test_a_sequence_is_judged_by_itself_and_a_new_one_by_all():
    acceptance = Acceptance((0.5, 0.5))
    for _ in range(100):
        acceptance.saw(1, 0, right=True)
        acceptance.saw(2, 0, right=False)
    assert acceptance.probability(1, 0) > 0.9
    assert acceptance.probability(2, 0) < 0.1
    assert 0.4 < acceptance.probability(3, 0) < 0.6
    assert acceptance.probability(1, 1) == 0.5  # another class: nothing is known of it
    acceptance.forget(1)
    assert 0.4 < acceptance.probability(1, 0) < 0.6


def test_each_right_guess_raises_the_class():
    acceptance = Acceptance((0.5, 0.8, 0.9))
    assert acceptance.chances(1, 0, 4) == pytest.approx([0.5, 0.5 * 0.8, 0.5 * 0.8 * 0.9, 0.5 * 0.8 * 0.9 * 0.9])
    assert acceptance.chances(1, 2, 2) == pytest.approx([0.9, 0.81])
    assert acceptance.chances(1, 0, 0) == []


def test_nothing_is_certain():
    acceptance = Acceptance((1.0,))
    assert acceptance.probability(1, 0) == PROBABILITY_MAX


def test_hopeless_guesses_are_not_offered():
    acceptance = Acceptance((0.001, 0.9))
    assert acceptance.chances(1, 0, 8) == []
