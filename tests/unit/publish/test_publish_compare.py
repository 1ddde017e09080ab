"""How far a file is from its estimator, row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import FailedPrecondition
from appliance.publish.compare import check, compare, golden_tolerance
from appliance.publish.estimators import Choices, Numbers


def numbers(*values):
    return Numbers(np.array(values, np.float64))


def choices(labels, probabilities):
    return Choices(np.array(labels), np.array(probabilities, np.float64))


def test_numbers_are_measured_by_their_spread():
    agreement = compare(numbers(0, 1000), numbers(0, 1000.25), 1e-3)
    assert agreement.scale == 500
    assert agreement.largest == pytest.approx(0.25 / 500)
    assert agreement.far == ()
    assert compare(numbers(0, 1000), numbers(1, 1000), 1e-3).far == (0,)


@pytest.mark.parametrize(
    ("expected", "got", "far"),
    [
        ((np.nan, 1.0), (np.nan, 1.0), ()),
        ((np.nan, 1.0), (0.0, 1.0), (0,)),
        ((1.0, 2.0), (np.nan, 2.0), (0,)),
        ((np.inf, 1.0), (np.inf, 1.0), ()),
        ((np.inf, 1.0), (-np.inf, 1.0), (0,)),
        ((1e30, 0.0), (np.inf, 0.0), (0,)),
        ((7.0, 7.0), (7.0, 7.1), (1,)),  # a constant: no spread
        ((0.0, 0.0), (0.0, 0.0), ()),
    ],
)
def test_numbers_that_are_none(expected, got, far):
    assert compare(numbers(*expected), numbers(*got), 1e-3).far == far


@pytest.mark.parametrize(
    ("labels", "probabilities", "far", "differ"),
    [
        ([0, 1], [[0.9, 0.1], [0.5, 0.5]], (), ()),
        ([0, 0], [[0.9, 0.1], [0.5, 0.5]], (), (1,)),  # a tie: either will do
        ([1, 1], [[0.9, 0.1], [0.5, 0.5]], (0,), (0,)),  # the numbers agree, the answer doesn't
        ([0, 1], [[0.7, 0.3], [0.5, 0.5]], (0,), ()),
        ([-1, 1], [[0.9, 0.1], [0.5, 0.5]], (0,), (0,)),  # a label that is no class
    ],
)
def test_labels(labels, probabilities, far, differ):
    agreement = compare(choices([0, 1], [[0.9, 0.1], [0.5, 0.5]]), choices(labels, probabilities), 1e-3)
    assert agreement.far == far
    assert agreement.labels_differ == differ


def test_far_rows_are_named_and_refused():
    agreement = compare(numbers(*range(30)), numbers(*range(1, 31)), 1e-3)
    with pytest.raises(
        FailedPrecondition, match=r"30 of them are beyond 0.001.*Rows: 0, 1, .*9, …\. Do this\."
    ) as caught:
        check(agreement, ["Do this."])
    assert caught.value.reason == "DIFFERENCE"
    check(compare(numbers(1, 2), numbers(1, 2), 0.0), [])


@given(st.lists(st.floats(0, 1e-3), min_size=1, max_size=20), st.floats(1e-6, 1e6))
def test_golden_tests_pass_what_was_measured_and_no_more_than_was_allowed(offsets, scale):
    expected = np.array([-scale, scale] * len(offsets))
    got = expected.copy()
    got[: len(offsets)] += np.array(offsets) * scale
    agreement = compare(Numbers(expected), Numbers(got), 1e-3)
    rows = [i for i in range(len(offsets)) if i not in agreement.far]
    if not rows:
        return
    absolute, relative = golden_tolerance(agreement, rows)
    assert all(abs(got[i] - expected[i]) <= absolute for i in rows)
    assert 0.999e-5 * agreement.scale <= absolute <= 2e-3 * agreement.scale
    assert relative == (0.0 if agreement.scale == 1 else 1e-6)


def test_one_far_row_does_not_widen_the_golden_tests():
    agreement = compare(numbers(0, 0, 4), numbers(0, 0, 0), 1e-3)
    assert golden_tolerance(agreement, [0, 1])[0] <= 3e-5 * agreement.scale
