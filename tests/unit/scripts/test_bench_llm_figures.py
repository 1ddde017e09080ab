"""Figures of streams whose every arrival is known."""

import math

import pytest
from bench.llm_figures import (
    common_window,
    crowd_summary,
    decode_summary,
    fairness,
    intrusion_summary,
    memory_growth,
    quiet_gaps,
    touched_gaps,
    wave_summary,
)
from bench.llm_load import Call
from hypothesis import given
from hypothesis import strategies as st

MS = 1_000_000
SECOND = 1000 * MS


def _call(start_ms, arrivals_ms, tokens=0, end_ms=None, **more):
    arrivals = [moment * MS for moment in arrivals_ms]
    end = end_ms * MS if end_ms is not None else arrivals[-1] if arrivals else 0
    return Call(start_ms * MS, arrivals, completion_tokens=tokens, end_ns=end, **more)


def _every(step_ms, first_ms, chunks):
    return range(first_ms, first_ms + step_ms * chunks, step_ms)


# --- decode ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("streams", "window"),
    [
        ([[10, 20, 30]], (10, 30)),
        ([[10, 20, 30, 40], [15, 25, 35]], (15, 35)),
        ([[10, 20], [20, 30]], None),
        ([[10, 20], [40, 50]], None),
        ([[10], [10]], None),
        ([[10, 20], []], None),
        ([], None),
    ],
)
def test_the_common_window_is_while_all_decode(streams, window):
    found = common_window([_call(0, arrivals) for arrivals in streams])
    assert found == (window and (window[0] * MS, window[1] * MS))


def test_the_decode_rate_is_that_of_the_common_window_only():
    """One stream alone makes a token each 10 ms, both together one each 100 ms: only the latter counts."""
    alone = [*_every(10, 0, 100), *_every(100, 1000, 11)]
    late = [*_every(100, 1000, 11), *_every(10, 2010, 50)]
    summary = decode_summary([_call(0, alone), _call(0, late)])
    assert summary.figures["tokens_per_s"] == pytest.approx(20)
    assert summary.figures["counted_tokens"] == 20
    assert (summary.calls, summary.errors) == (2, {})


@given(st.integers(1, 16), st.integers(4, 50), st.integers(1, 50), st.data())
def test_equal_streams_add_up_whatever_their_offsets(streams, chunks, step, data):
    """Within a step the streams' tokens come one after another: the edges of the window must not bias the rate."""
    offsets = data.draw(st.lists(st.integers(0, step - 1), min_size=streams, max_size=streams))
    summary = decode_summary([_call(0, _every(step, 100 + offset, chunks)) for offset in offsets])
    assert summary.figures["tokens_per_s"] == pytest.approx(streams * 1000 / step)


def test_a_chunk_of_two_tokens_counts_twice():
    summary = decode_summary([_call(0, _every(100, 0, 10), tokens=20, accepted_tokens=10, reused_tokens=7)])
    assert summary.figures["tokens_per_s"] == pytest.approx(20)
    assert summary.figures["accepted_share"] == 0.5
    assert summary.figures["reused_tokens"] == 7


@pytest.mark.parametrize(
    ("calls", "errors"),
    [
        ([_call(0, [10, 20]), _call(0, [30, 40])], {"NO_COMMON_WINDOW": 1}),
        ([_call(0, [10, 20, 30]), _call(0, [12], error="UNAVAILABLE")], {"UNAVAILABLE": 1}),
        ([_call(0, [])], {"NO_COMMON_WINDOW": 1}),
        # The window holds only one token of the second stream.
        ([_call(0, [10, 20]), _call(0, [5, 15, 25])], {"NO_COMMON_WINDOW": 1}),
        ([_call(0, [10, 20]), _call(0, [5, 15, 18, 25])], {}),
    ],
)
def test_a_round_without_a_common_window_is_an_error(calls, errors):
    summary = decode_summary(calls)
    assert summary.errors == errors
    assert math.isnan(summary.figures["tokens_per_s"]) == bool(errors)


# --- waves and crowds -----------------------------------------------------------------------------------------------


def test_a_wave_lasts_from_the_first_start_to_the_last_end():
    calls = [
        _call(0, [100, 200], tokens=10, end_ms=1000, prompt_tokens=400, reused_tokens=300),
        _call(500, [900, 950], tokens=30, end_ms=2000, prompt_tokens=400, reused_tokens=398),
        _call(0, [50], error="CANCELLED", end_ms=9000),
    ]
    figures = wave_summary(calls).figures
    assert figures["tokens_per_s"] == 20
    assert figures["seconds"] == 2
    assert (figures["ttft_p50_ms"], figures["ttft_p95_ms"], figures["ttft_max_ms"]) == (100, 400, 400)
    assert (figures["prompt_tokens"], figures["reused_tokens"], figures["answer_tokens"]) == (400, 349, 20)
    assert wave_summary(calls).errors == {"CANCELLED": 1}


def test_the_95th_percentile_of_the_first_tokens_is_a_measured_one():
    calls = [_call(0, [number * 10, 1000]) for number in range(1, 101)]
    assert wave_summary(calls).figures["ttft_p95_ms"] == 950


def test_a_wave_of_failures_has_no_figures():
    summary = wave_summary([_call(0, [], error="UNAVAILABLE")])
    assert (summary.calls, summary.errors) == (0, {"UNAVAILABLE": 1})
    assert all(math.isnan(value) or value == 0 for value in summary.figures.values())


@pytest.mark.parametrize(
    ("clients", "expected"),
    [
        ([[(0, 100)], [(0, 100)]], 1),
        ([[(0, 100)], [(0, 300)]], 1.5),
        # From the first start to the last end, waiting between them included.
        ([[(0, 50), (250, 300)], [(0, 100)]], 1.5),
        ([[(100, 200)], [(0, 300)], []], 1.5),
    ],
)
def test_fairness_is_the_slowest_clients_time_to_the_mean(clients, expected):
    calls = [[_call(start, [end], end_ms=end) for start, end in one] for one in clients]
    assert fairness(calls) == pytest.approx(expected)
    assert crowd_summary(calls).figures["slowest_to_mean"] == pytest.approx(expected)


def test_a_client_with_a_failed_call_is_not_a_fast_client():
    good, failed = _call(0, [100], end_ms=100), _call(0, [], end_ms=1, error="RESOURCE_EXHAUSTED")
    assert fairness([[good], [good], [failed, good]]) == 1
    assert math.isnan(fairness([[failed]]))
    assert crowd_summary([[good], [failed]]).errors == {"RESOURCE_EXHAUSTED": 1}


# --- intrusion ------------------------------------------------------------------------------------------------------


def test_undisturbed_gaps_lie_within_the_window():
    stream = _call(0, [0, 10, 20, 40, 70])
    assert quiet_gaps([stream], 10 * MS, 40 * MS) == [10 * MS, 20 * MS]
    assert quiet_gaps([stream], 11 * MS, 39 * MS) == []


def test_gaps_that_touch_the_window_count_whole():
    stream = _call(0, [0, 10, 20, 40, 70])
    assert touched_gaps([stream], 15 * MS, 30 * MS) == [10 * MS, 20 * MS]
    # One that only ends or only begins at the border is not touched.
    assert touched_gaps([stream], 20 * MS, 40 * MS) == [20 * MS]
    assert touched_gaps([stream], 50 * MS, 60 * MS) == [30 * MS]


def test_intrusion_compares_gaps_before_and_during_the_prompt():
    """A token each 10 ms until 1,000 ms; then each 25 ms, until the intruder's first token at 1,500 ms."""
    arrivals = [*_every(10, 0, 101), *_every(25, 1025, 20), *_every(10, 1510, 10)]
    streams = [_call(0, arrivals), _call(0, arrivals)]
    summary = intrusion_summary(streams, _call(1000, [1500], prompt_tokens=2000), 100 * MS)
    figures = summary.figures
    assert (figures["quiet_p50_ms"], figures["quiet_p99_ms"]) == (10, 10)
    assert (figures["busy_p50_ms"], figures["busy_p99_ms"], figures["busy_max_ms"]) == (25, 25, 25)
    assert figures["p99_growth"] == 2.5
    assert (figures["intruder_ttft_ms"], figures["streams_left"], figures["prompt_tokens"]) == (500, 2, 2000)
    assert (summary.calls, summary.errors) == (3, {})


def test_streams_that_ended_before_the_intruders_first_token_are_told():
    streams = [_call(0, _every(10, 0, 101)), _call(0, _every(10, 0, 200))]
    assert intrusion_summary(streams, _call(1000, [1500]), 0).figures["streams_left"] == 1


@pytest.mark.parametrize(
    ("intruder", "errors"),
    [
        (_call(1000, [], error="RESOURCE_EXHAUSTED"), {"RESOURCE_EXHAUSTED": 1}),
        (_call(1000, []), {"NO_FIRST_TOKEN": 1}),
    ],
)
def test_an_intruder_that_fails_is_an_error(intruder, errors):
    summary = intrusion_summary([_call(0, _every(10, 0, 200))], intruder, 0)
    assert (summary.calls, summary.errors) == (0, errors)
    assert all(math.isnan(value) for value in summary.figures.values())


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "growth"),
    [([(0, 100), (100, 5_000_000), (200, 7_500_000)], 2.5), ([(0, 100), (100, 9_000_000)], 0)],
)
def test_growth_leaves_the_first_requests_out(samples, growth):
    assert memory_growth(samples) == growth


def test_one_sample_tells_no_growth():
    assert math.isnan(memory_growth([(0, 100)]))
