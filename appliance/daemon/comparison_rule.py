"""What follows from a comparison of a candidate with the active version: the decision alone. Pure.

Three kinds of evidence. What both engines counted since it began is judged as a probation is (probation.py): a candidate
whose engine dies, that fails clearly more often, or is clearly slower, goes at once. What front-ends saw of it: a call
that it could not answer and the active version could counts against it, whoever's fault. And pairs: the same call
answered by both. Before the end only what is clear decides, by bounds, because it is looked at each second.
"""

from typing import NamedTuple

from appliance import limits
from appliance.comparison import Bounds, Comparison, Mode, Plan, Side, Tally
from appliance.daemon import probation
from appliance.daemon.probation import Judgement, Seen, Verdict, more_often
from appliance.versions import Measured
from appliance.worker.latency import percentile_ms


class Engines(NamedTuple):
    """What the engines of both versions counted since the comparison began."""

    active: Measured
    candidate: Seen


def judge(plan: Plan, tally: Tally, engines: Engines, seconds: float) -> Judgement:
    """COMMIT: the candidate may take over; ROLL_BACK: it is worse. ``seconds``: how long it has been compared."""
    early = probation.judge(engines.active, engines.candidate, plan.seconds, 1.0)
    if early.verdict is Verdict.ROLL_BACK:
        return early
    bounds = plan.bounds
    for reason in (_failing(bounds, tally), _clearly_differing(bounds, tally)):
        if reason:
            return Judgement(Verdict.ROLL_BACK, reason)
    if not is_over(plan, tally, seconds):
        return Judgement(Verdict.WATCHING)
    for reason in (_failed(bounds, tally), _differs(bounds, tally), _slower(bounds, tally)):
        if reason:
            return Judgement(Verdict.ROLL_BACK, reason)
    return Judgement(Verdict.COMMIT, _kept(tally))


def is_over(plan: Plan, tally: Tally, seconds: float) -> bool:
    """Whether the plan's calls have come, or its time has passed."""
    return bool((plan.calls and _tried(tally) >= plan.calls) or (plan.seconds and seconds >= plan.seconds))


def _tried(tally: Tally) -> int:
    return tally.candidate.calls + tally.candidate.failed


def _failing(bounds: Bounds, tally: Tally) -> str:
    """Clearly: at least three, and the bound of the true share is beyond what is allowed."""
    failed = tally.candidate.failed
    if bounds.failed_max >= 1 or failed < limits.probation_faults_min:
        return ""
    if more_often(Measured(_tried(tally), failed), None) <= bounds.failed_max:
        return ""
    return _failed_words(bounds, tally)


def _failed(bounds: Bounds, tally: Tally) -> str:
    """In the end: the share itself, where it is more than an accident."""
    failed = tally.candidate.failed
    if failed < limits.probation_faults_min or failed / _tried(tally) <= bounds.failed_max:
        return ""
    return _failed_words(bounds, tally)


def _failed_words(bounds: Bounds, tally: Tally) -> str:
    most = f"at most {100 * bounds.failed_max:g} % may"
    return f"it could not answer {tally.candidate.failed:,} of {_tried(tally):,} calls; {most}"


def _clearly_differing(bounds: Bounds, tally: Tally) -> str:
    differ = tally.classified - tally.agreed
    if bounds.agreement_min <= 0 or differ < limits.probation_faults_min:
        return ""
    if more_often(Measured(tally.classified, differ), None) <= 1 - bounds.agreement_min:
        return ""
    return _differs_words(bounds, tally)


def _differs(bounds: Bounds, tally: Tally) -> str:
    if tally.classified < limits.comparison_pairs_min or tally.agreed >= bounds.agreement_min * tally.classified:
        return ""
    return _differs_words(bounds, tally)


def _differs_words(bounds: Bounds, tally: Tally) -> str:
    least = f"at least {100 * bounds.agreement_min:g} % must"
    return f"{tally.agreed:,} of {tally.classified:,} answers agree with the active version's; {least}"


def _slower(bounds: Bounds, tally: Tally) -> str:
    if not bounds.latency_ratio_max or _pairs(tally.active) < limits.comparison_pairs_min:
        return ""
    then_ms, now_ms = _median_ms(tally.active), _median_ms(tally.candidate)
    # Below the floor a factor is noise, as in a probation.
    if now_ms <= max(bounds.latency_ratio_max * then_ms, then_ms + limits.probation_median_floor_ms):
        return ""
    return (
        f"the median of its calls takes {now_ms:.3g} ms, of the active version's {then_ms:.3g} ms;"
        f" at most {bounds.latency_ratio_max:g} times as long is allowed"
    )


def _pairs(side: Side) -> int:
    return sum(side.latency.values())


def _median_ms(side: Side) -> float:
    return percentile_ms(side.latency, 50)


def _kept(tally: Tally) -> str:
    tried = _tried(tally)
    if not tried:
        return "no calls came, so nothing spoke against it"
    words = [f"it answered {tally.candidate.calls:,} of {tried:,} calls"]
    if tally.classified:
        words.append(f"{tally.agreed:,} of {tally.classified:,} answers agree")
    return "; ".join(words)


def summary(comparison: Comparison) -> str:
    """What an event says of it: clauses behind "name:version"."""
    plan, tally = comparison.plan, comparison.tally
    what = "answered" if plan.mode is Mode.CANARY else "was shown"
    words = [
        f"was compared with {comparison.active} and {what} {tally.taken:,} of {tally.offered:,} calls",
        f"{tally.candidate.failed:,} failed",
    ]
    if tally.pairs:
        words.append(f"median {_median_ms(tally.candidate):.3g} ms against {_median_ms(tally.active):.3g} ms")
    if tally.classified:
        words.append(f"{tally.agreed:,} of {tally.classified:,} agree")
    if tally.numeric:
        words.append(f"numbers differ by up to {tally.distance_max:.3g}")
    if tally.candidate.tokens:
        words.append(f"{tally.candidate.tokens:,} tokens against {tally.active.tokens:,}")
    return f"{', '.join(words)}: {comparison.outcome.value}, {comparison.reason or 'no reason was given'}"
