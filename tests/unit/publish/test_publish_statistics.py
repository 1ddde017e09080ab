"""statistics.json: right, finite, bounded."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appliance import limits
from appliance.publish.estimators import Choices, Numbers
from appliance.publish.statistics import document, summary
from appliance.publish.table import column, table


@given(hnp.arrays(np.float64, st.integers(1, 80), elements=st.floats(width=64)))
def test_numbers(values):
    found = summary(column("a", values))
    json.dumps(found, allow_nan=False)
    finite = values[np.isfinite(values)]
    assert found["count"] == len(values)
    assert found["missing"] + found["infinite"] + len(finite) == len(values)
    if not len(finite):
        return
    histogram = found["histogram"]
    assert sum(histogram["counts"]) == len(finite)
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1 <= 21
    assert histogram["edges"] == sorted(histogram["edges"])
    assert (histogram["edges"][0], histogram["edges"][-1]) == (found["min"], found["max"]) == (min(finite), max(finite))
    assert list(found["quantiles"].values()) == sorted(found["quantiles"].values())


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=200))
def test_bins_hold_what_lies_between_their_edges(values):
    found = summary(column("a", np.array(values)))
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    for i, count in enumerate(counts):
        last = i == len(counts) - 1
        inside = [v for v in values if edges[i] <= v and (v < edges[i + 1] or last)]
        assert count == len(inside)
    assert math.isclose(found["mean"], np.mean(values), abs_tol=1e-9)
    assert math.isclose(found["std"], np.std(values), abs_tol=1e-9)


def test_a_constant_column():
    found = summary(column("a", np.array([3.0, 3.0])))
    assert found["histogram"] == {"edges": [3.0, 3.0], "counts": [2]}
    assert found["std"] == 0


def test_categories(monkeypatch):
    found = summary(column("a", ["x", "y", "x", "z"]))
    assert found["categories"][0] == {"value": "x", "count": 2}
    assert (found["distinct"], found["other"]) == (3, 0)
    monkeypatch.setattr(limits, "statistics_categories_max", 1)
    assert summary(column("a", ["x", "y", "x", "z"]))["other"] == 2
    assert len(summary(column("a", ["x" * 5000, "y"]))["categories"][0]["value"]) == 200


def told(rows, places, predictions, classes=(), target=None, output="y"):
    return json.loads(document(rows, places, predictions, classes, target, output))


def test_the_document():
    rows = table({"size": [1.0, 2.0, np.nan], "colour": ["red", "red", "blue"]})
    answers = Choices(np.array([0, 1, 1]), np.array([[0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]))
    found = told(rows, [("size", 0), ("colour", 0)], answers, ["no", "yes"], column("ok", ["no", "yes", "yes"]))
    assert (found["schema"], found["schema_version"]) == ("inference-appliance/statistics", 1)
    assert [(c["name"], c["kind"], c["input"]) for c in found["columns"]] == [
        ("size", "number", "size"),
        ("colour", "category", "colour"),
    ]
    label, *probabilities = found["predictions"]
    assert label["categories"] == [{"value": "yes", "count": 2}, {"value": "no", "count": 1}]
    assert [(p["label"], p["index"]) for p in probabilities] == [("no", 0), ("yes", 1)]
    assert found["target"]["name"] == "ok"


def test_it_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "statistics_columns_max", 2)
    found = told(table(np.zeros((2, 5))), [("x", i) for i in range(5)], Numbers(np.zeros(2)))
    assert len(found["columns"]) == 2
    assert found["columns_left_out"] == 3
    assert found["target"] is None


@pytest.mark.parametrize("count", [1, 7])
def test_a_line_for_each_column(count):
    text = document(table(np.zeros((2, count))), [("x", i) for i in range(count)], Numbers(np.zeros(2)), (), None, "y")
    assert sum(b'"column_' in line for line in text.splitlines()) == count
