"""What operators' tools ask about comparisons: between Admin's messages and comparison.py."""

from collections.abc import Iterator
from math import isfinite

from appliance import limits
from appliance.comparison import (
    AskBeginComparison,
    AskComparison,
    AskEndComparison,
    Bounds,
    Comparison,
    Mode,
    Plan,
    Side,
)
from appliance.errors import InvalidArgument
from appliance.pb.appliance.v1 import admin_pb2 as pb
from appliance.questions import Progress, Question
from appliance.serve.asking import STATUS_SECONDS_MAX, WORK_SECONDS_MAX, Asks
from appliance.worker.channel import last
from appliance.worker.latency import percentile_ms

_MODES = {pb.BeginComparisonRequest.MODE_CANARY: Mode.CANARY, pb.BeginComparisonRequest.MODE_SHADOW: Mode.SHADOW}


def begin(supervisor: Asks, request: pb.BeginComparisonRequest) -> Iterator[pb.ComparisonResponse]:
    """Progress, and the comparison that has begun. Raises InvalidArgument and what the supervisor refuses."""
    if not request.version:
        raise InvalidArgument("which version is to be compared with the active one? Name it", reason="VERSION_MISSING")
    yield from _work(supervisor, AskBeginComparison(request.name, request.version, _plan(request)))


def end(supervisor: Asks, request: pb.EndComparisonRequest) -> Iterator[pb.ComparisonResponse]:
    """Progress, and the comparison that has ended."""
    yield from _work(supervisor, AskEndComparison(request.name, request.promote))


def show(supervisor: Asks, request: pb.ShowComparisonRequest) -> pb.ComparisonResponse:
    """How it stands. Raises NotFound where there was none."""
    answer = last(supervisor.ask(AskComparison(request.name), STATUS_SECONDS_MAX))
    assert isinstance(answer, Comparison)  # comparison.py: the answer to AskComparison
    return response(answer)


def _work(supervisor: Asks, question: Question) -> Iterator[pb.ComparisonResponse]:
    for answer in supervisor.ask(question, WORK_SECONDS_MAX):
        if isinstance(answer, Progress):
            yield pb.ComparisonResponse(text=answer.text, current=answer.done, total=answer.total)
        elif isinstance(answer, Comparison):
            yield response(answer)


def _plan(request: pb.BeginComparisonRequest) -> Plan:
    mode = _MODES.get(request.mode)
    if mode is None:
        raise InvalidArgument("a comparison is a canary or a shadow: say which", reason="COMPARISON")
    usual = Bounds()
    bounds = Bounds(
        request.failed_max if request.HasField("failed_max") else usual.failed_max,
        request.agreement_min if request.HasField("agreement_min") else usual.agreement_min,
        request.latency_ratio_max if request.HasField("latency_ratio_max") else usual.latency_ratio_max,
    )
    ratio_max = limits.comparison_latency_ratio_limit
    for what, value, low, high in (
        ("percent", request.percent, 0, 100),
        ("calls", request.calls, 0, limits.comparison_calls_max),
        ("seconds", request.seconds, 0, limits.comparison_seconds_max),
        ("failed_max", bounds.failed_max, 0, 1),
        ("agreement_min", bounds.agreement_min, 0, 1),
        ("latency_ratio_max", bounds.latency_ratio_max, 0, ratio_max),
        ("probation_seconds", request.probation_seconds, 0, limits.probation_seconds_max),
    ):
        if not (isfinite(value) and low <= value <= high):
            raise InvalidArgument(f"{what} is from {low:g} to {high:g}, and {value:g} came", reason="COMPARISON")
    if not request.percent:
        raise InvalidArgument("percent is above 0: the share of calls that is compared", reason="COMPARISON")
    if request.by_rule and not (request.calls or request.seconds):
        text = "what ends by rule needs an end: give calls, or seconds, or both"
        raise InvalidArgument(text, reason="COMPARISON")
    return Plan(
        mode, request.percent, request.calls, request.seconds, request.by_rule, bounds, request.probation_seconds
    )


def response(comparison: Comparison) -> pb.ComparisonResponse:
    """All that is known of one."""
    plan, tally = comparison.plan, comparison.tally
    return pb.ComparisonResponse(
        done=True,
        name=comparison.name,
        mode=plan.mode.value,
        percent=plan.percent,
        outcome=comparison.outcome.value,
        reason=comparison.reason,
        began_ms=comparison.began_ms,
        ended_ms=comparison.ended_ms,
        offered=tally.offered,
        taken=tally.taken,
        retried=tally.retried,
        skipped=tally.skipped,
        dropped=tally.dropped,
        pairs=tally.pairs,
        unlike=tally.unlike,
        classified=tally.classified,
        agreed=tally.agreed,
        numeric=tally.numeric,
        distance_max=tally.distance_max,
        relative_max=tally.relative_max,
        relative_mean=tally.relative_sum / tally.numeric if tally.numeric else 0.0,
        texts=tally.texts,
        same_texts=tally.same_texts,
        active=_side(comparison.active, tally.active),
        candidate=_side(comparison.version, tally.candidate),
        calls_wanted=plan.calls,
        seconds_wanted=plan.seconds,
        by_rule=plan.by_rule,
    )


def _side(version: str, side: Side) -> pb.ComparedSide:
    return pb.ComparedSide(
        version=version,
        calls=side.calls,
        failed=side.failed,
        median_ms=percentile_ms(side.latency, 50),
        p99_ms=percentile_ms(side.latency, 99),
        first_piece_ms=percentile_ms(side.first, 50),
        tokens=side.tokens,
        tokens_per_second=1e9 * side.tokens / side.text_ns if side.text_ns else 0.0,
    )
