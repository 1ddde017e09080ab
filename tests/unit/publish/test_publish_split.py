"""Which rows are held back, and what each golden test shows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.publish.estimators import Choices, Numbers
from appliance.publish.split import groups, hold_back
from appliance.publish.table import table


def choices(labels):
    labels = np.array(labels, np.int64)
    return Choices(labels, np.eye(5)[labels])


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.integers(1, 30))
def test_every_class_is_held_back_and_half_of_the_rows_at_most(labels, count):
    held = hold_back(choices(labels), count)
    assert held == sorted(set(held)) == hold_back(choices(labels), count)
    assert len(held) == min(count, len(labels) // 2)
    if len(held) >= len(set(labels)):
        assert {labels[i] for i in held} == set(labels)


def test_a_rare_class_is_not_left_out():
    labels = [0] * 500 + [1]
    assert 500 in hold_back(choices(labels), 5)


@given(
    st.lists(
        st.tuples(st.floats(-1e300, 1e300), st.floats(allow_nan=True, allow_infinity=True)), min_size=1, max_size=30
    ),
    st.data(),
)
def test_every_usable_row_is_in_one_group(values, data):
    rows = table(np.array(values))
    answers = Numbers(np.array([v[0] for v in values]))
    usable = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, unique=True))
    found = groups(rows, answers, sorted(usable))
    assert sorted(i for group in found for i in group.rows) == sorted(usable)
    assert len({group.name for group in found}) == len(found)


def test_what_the_groups_show():
    values = np.array([[v, 1.0] for v in (5.0, 5.1, 4.9, 5.2, 4.8, 5.0, 900.0, np.nan)])
    answers = Numbers(np.array([1.0, 1, 1, 9, -9, 1, 1, 1]))
    found = {group.name: group.rows for group in groups(table(values), answers, range(8))}
    assert found["rows with missing values"] == (7,)
    assert found["extreme rows"] == (3, 4)  # the lowest and the highest answer go before the farthest row
    assert len(found["a typical row"]) == 1
    assert set(found["a typical row"]) <= {0, 5}


def test_a_far_row_is_extreme():
    values = np.array([[float(v)] for v in range(1, 10)] + [[900.0]])
    answers = Numbers(np.linspace(0, 1, 10))
    assert 9 in {g.name: g.rows for g in groups(table(values), answers, range(10))}["extreme rows"]
