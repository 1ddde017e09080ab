"""Pure: what recorded streams come to. Every figure of the scenarios is defined here."""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable

import numpy as np

from bench.llm_load import Call
from bench.stats import Summary, percentile

NAN = float("nan")


def errors_of(calls: Iterable[Call]) -> dict[str, int]:
    """Failed calls by code."""
    return dict(Counter(call.error for call in calls if call.error))


def _seconds(nanoseconds: float) -> float:
    return nanoseconds / 1e9


def _percentile_ms(nanoseconds: Iterable[int], rank: float) -> float:
    return percentile(np.asarray(list(nanoseconds), dtype=np.float64), rank) / 1e6


def _ttfts_ns(calls: Iterable[Call]) -> list[int]:
    return [call.arrivals_ns[0] - call.start_ns for call in calls]


def _good(calls: Iterable[Call]) -> list[Call]:
    return [call for call in calls if not call.error and call.arrivals_ns]


def common_window(calls: list[Call]) -> tuple[int, int] | None:
    """While all of them decode: from the last first token to the first last one; None if there is no such time."""
    if not calls or not all(call.arrivals_ns for call in calls):
        return None
    opens = max(call.arrivals_ns[0] for call in calls)
    closes = min(call.arrivals_ns[-1] for call in calls)
    return (opens, closes) if opens < closes else None


def _rate_within(call: Call, opens_ns: int, closes_ns: int) -> tuple[float, float]:
    """Tokens of one stream within the window, and tokens a second between the first and the last of them."""
    inside = [moment for moment in call.arrivals_ns if opens_ns <= moment <= closes_ns]
    if len(inside) < 2:
        return 0.0, NAN
    tokens = (len(inside) - 1) * call.tokens / len(call.arrivals_ns)
    return tokens, tokens / _seconds(inside[-1] - inside[0])


def decode_summary(calls: list[Call]) -> Summary:
    """Decode throughput of K streams that run at the same time, comparable with S_TG of llama-batched-bench.

    tokens_per_s: sum over the streams of the tokens a second of each, between its first and its last token within the
    window in which all K decode (common_window). A chunk counts as its call's tokens divided by its call's chunks.
    counted_tokens: of all streams, within that window; few of answer_tokens times K mean a rate of chance.
    accepted_share: of the answers' tokens, those that speculation guessed (llama-batched-bench never guesses).
    reused_tokens: of each prompt, computed before this call (median). A round in which the streams never decode all at
    once is counted as the error NO_COMMON_WINDOW.
    """
    good, errors = _good(calls), errors_of(calls)
    window = common_window(good) if len(good) == len(calls) else None
    rates = [_rate_within(call, *window) for call in good] if window else []
    if not rates or any(math.isnan(rate) for _, rate in rates):
        errors = errors or {"NO_COMMON_WINDOW": 1}
        rates = []
    answered = sum(call.tokens for call in good)
    figures = {
        "tokens_per_s": sum(rate for _, rate in rates) if rates else NAN,
        "counted_tokens": sum(tokens for tokens, _ in rates),
        "prompt_tokens": _median(call.prompt_tokens for call in good),
        "answer_tokens": _median(call.tokens for call in good),
        "reused_tokens": _median(call.reused_tokens for call in good),
        "accepted_share": sum(call.accepted_tokens for call in good) / answered if answered else NAN,
    }
    return Summary(len(good), "python", figures, errors)


def wave_summary(calls: list[Call]) -> Summary:
    """Some calls of several clients that began together, from the first call's start to the last call's end.

    tokens_per_s: all tokens of all answers, divided by that time, prefill and waiting included. ttft: from a call's start
    to its first text. reused_tokens: of each prompt, computed before (median).
    """
    good = _good(calls)
    took = max((call.end_ns for call in good), default=0) - min((call.start_ns for call in good), default=0)
    ttfts = _ttfts_ns(good)
    figures = {
        "tokens_per_s": sum(call.tokens for call in good) / _seconds(took) if took else NAN,
        "ttft_p50_ms": _percentile_ms(ttfts, 50),
        "ttft_p95_ms": _percentile_ms(ttfts, 95),
        "ttft_max_ms": _percentile_ms(ttfts, 100),
        "prompt_tokens": _median(call.prompt_tokens for call in good),
        "answer_tokens": _median(call.tokens for call in good),
        "reused_tokens": _median(call.reused_tokens for call in good),
        "seconds": _seconds(took),
    }
    return Summary(len(good), "python", figures, errors_of(calls))


def fairness(clients: list[list[Call]]) -> float:
    """The slowest client's time divided by the clients' mean; nan if no client got through.

    A client's time: from its first call's start to its last call's end; clients with a failed call are left out.
    """
    times = [calls[-1].end_ns - calls[0].start_ns for calls in clients if calls and not any(one.error for one in calls)]
    return max(times) / statistics.mean(times) if times else NAN


def crowd_summary(clients: list[list[Call]]) -> Summary:
    """As wave_summary, with ``slowest_to_mean`` (fairness) and the clients' mean time first."""
    calls = list(itertools.chain.from_iterable(clients))
    whole = wave_summary(calls)
    return Summary(whole.calls, whole.driver, {"slowest_to_mean": fairness(clients), **whole.figures}, whole.errors)


def quiet_gaps(streams: Iterable[Call], opens_ns: int, closes_ns: int) -> list[int]:
    """Nanoseconds between two chunks of one stream, both of which came within the window."""
    return [
        later - earlier
        for call in streams
        for earlier, later in itertools.pairwise(call.arrivals_ns)
        if opens_ns <= earlier and later <= closes_ns
    ]


def touched_gaps(streams: Iterable[Call], opens_ns: int, closes_ns: int) -> list[int]:
    """Nanoseconds between two chunks of one stream, where any of that time lies in the window.

    So a stall that begins before the window closes counts whole, although its chunk comes later.
    """
    return [
        later - earlier
        for call in streams
        for earlier, later in itertools.pairwise(call.arrivals_ns)
        if earlier < closes_ns and later > opens_ns
    ]


def intrusion_summary(streams: list[Call], intruder: Call, opens_ns: int) -> Summary:
    """Gaps between tokens of running streams, undisturbed and while a long prompt is computed.

    quiet: from ``opens_ns`` to the intruder's start. busy: from its start to its first token. p99_growth: busy_p99_ms
    divided by quiet_p99_ms. intruder_ttft_ms: from its start to its first token. streams_left: of the streams, those that
    still ran when it came; fewer than all make the busy gaps look too good. prompt_tokens: the intruder's.
    """
    errors = errors_of([*streams, intruder])
    if intruder.error or not intruder.arrivals_ns:
        figures = dict.fromkeys(INTRUSION, NAN)
        return Summary(0, "python", figures, errors or {"NO_FIRST_TOKEN": 1})
    first = intruder.arrivals_ns[0]
    quiet, busy = quiet_gaps(streams, opens_ns, intruder.start_ns), touched_gaps(streams, intruder.start_ns, first)
    quiet_p99, busy_p99 = _percentile_ms(quiet, 99), _percentile_ms(busy, 99)
    values = (
        busy_p99 / quiet_p99 if quiet_p99 else NAN,
        _percentile_ms(quiet, 50),
        quiet_p99,
        _percentile_ms(busy, 50),
        busy_p99,
        _percentile_ms(busy, 100),
        (first - intruder.start_ns) / 1e6,
        float(sum(call.end_ns >= first for call in streams)),
        float(intruder.prompt_tokens),
    )
    return Summary(len(streams) + 1, "python", dict(zip(INTRUSION, values, strict=True)), errors)


INTRUSION = ("p99_growth", "quiet_p50_ms", "quiet_p99_ms", "busy_p50_ms", "busy_p99_ms", "busy_max_ms",
             "intruder_ttft_ms", "streams_left", "prompt_tokens")  # fmt: skip


def memory_growth(samples: list[tuple[int, int]]) -> float:
    """MB (10^6 bytes) from the second sample to the last; nan with fewer than two.

    Samples are (requests done, bytes). The first is left out: the first requests fill pools that then stay.
    """
    return (samples[-1][1] - samples[1][1]) / 1e6 if len(samples) > 1 else NAN


def _median(values: Iterable[int]) -> float:
    """Median; nan of nothing."""
    found = list(values)
    return float(statistics.median(found)) if found else NAN
