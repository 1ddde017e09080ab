import math
from collections import Counter

import numpy as np
import pytest
from bench.stats import Sample, Summary, median_of, percentile, ratios, summarise
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("values", "rank", "expected"),
    [
        (range(1, 101), 50, 50),
        (range(1, 101), 99, 99),
        (range(1, 101), 99.9, 100),
        (range(1, 101), 100, 100),
        ([7], 50, 7),
        ([1, 1000], 90, 1000),
    ],
)
def test_percentiles_are_nearest_rank(values, rank, expected):
    assert percentile(np.asarray(list(values), dtype=float), rank) == expected


def test_percentile_of_nothing_is_nan():
    assert math.isnan(percentile(np.empty(0), 50))


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 100), st.floats(0, 100))
def test_percentiles_are_measured_values_and_rise_with_the_rank(values, one, other):
    array = np.asarray(values)
    low, high = percentile(array, min(one, other)), percentile(array, max(one, other))
    assert low in values
    assert low <= high


def test_a_run_is_counted_in_calls_bytes_and_milliseconds():
    sample = Sample(
        2.0, 4, np.asarray([1000.0, 2000, 3000, 4000]), Counter({"UNAVAILABLE": 2}), 1_000_000, 500_000, "d"
    )
    summary = summarise(sample)
    assert summary.calls == 4
    assert summary.figures["calls_per_s"] == 2
    assert summary.figures["mb_per_s_out"] == 2
    assert summary.figures["mb_per_s_in"] == 1
    assert summary.figures["p50_ms"] == 2
    assert summary.figures["max_ms"] == 4
    assert summary.errors == {"UNAVAILABLE": 2}
    assert "late_p99_ms" not in summary.figures


def test_failed_calls_are_not_part_of_the_rate():
    summary = summarise(Sample(1.0, 0, np.empty(0), Counter({"NOT_OK": 1000}), 10, 10, "h2load"))
    assert summary.figures["calls_per_s"] == 0
    assert summary.errors == {"NOT_OK": 1000}


def _summary(rate, errors=None):
    return Summary(int(rate), "d", {"calls_per_s": rate, "p50_ms": 1 / rate}, errors or {})


def test_rounds_give_medians_of_figures_and_sums_of_errors():
    both = median_of([_summary(10.0, {"A": 1}), _summary(1000.0), _summary(20.0, {"A": 2, "B": 1})])
    assert both.figures["calls_per_s"] == 20
    assert both.calls == 1030
    assert both.errors == {"A": 3, "B": 1}


def test_no_rounds_have_no_median():
    with pytest.raises(ValueError, match="no rounds"):
        median_of([])


def test_ratio_is_first_by_second_of_what_both_have():
    first = Summary(1, "d", {"calls_per_s": 3000.0, "late_p99_ms": 1.0, "p50_ms": 1.0}, {})
    second = Summary(1, "d", {"calls_per_s": 1200.0, "p50_ms": 0.0}, {})
    found = ratios(first, second)
    assert found["calls_per_s"] == 2.5
    assert math.isnan(found["p50_ms"])
    assert set(found) == {"calls_per_s", "p50_ms"}
