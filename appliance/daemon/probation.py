"""Whether a new version is no worse than the one before it: the decision alone. Pure.

A version on probation is rolled back when its engine dies, when clearly more of its calls fail by its own fault than did
before, or when it clearly takes longer. "Clearly": by bounds, so that bad luck with few calls decides nothing. It is
committed when its time is up and nothing spoke against it, which is also what happens when nobody called.
"""

from enum import Enum
from math import sqrt
from typing import NamedTuple

from appliance import limits
from appliance.types import EngineStats, ModelState
from appliance.versions import Measured
from appliance.worker.latency import nth_us


class Verdict(str, Enum):
    """What follows from what was seen."""

    WATCHING = "watching"
    COMMIT = "commit"
    ROLL_BACK = "roll back"


class Judgement(NamedTuple):
    """A verdict, and why: a clause that can stand in a log line or an error; empty while watching."""

    verdict: Verdict
    reason: str = ""


class Seen(NamedTuple):
    """What is known of the version on probation now. ``state`` None: there is no engine, nor will there be."""

    calls: Measured
    restarts: int
    state: ModelState | None
    why_not_ready: str = ""


class _Regression(NamedTuple):
    """One quantile of latency, and how much longer it may be."""

    called: str
    quantile: float
    calls_min: int
    factor: float
    floor_ms: float


_REGRESSIONS = (
    _Regression(
        "the median",
        0.5,
        limits.probation_median_calls_min,
        limits.probation_median_factor,
        limits.probation_median_floor_ms,
    ),
    _Regression(
        "the 99th percentile",
        0.99,
        limits.probation_slowest_calls_min,
        limits.probation_slowest_factor,
        limits.probation_slowest_floor_ms,
    ),
)
# Engines in these states come to nothing by themselves.
_GIVEN_UP = (None, ModelState.FAILED, ModelState.QUARANTINED)


def measured(stats: EngineStats, lost: int) -> Measured:
    """What counters say of a version; ``lost`` calls were in flight when an engine of it died."""
    latency = tuple(sorted(stats.latency.items()))
    faults = stats.fault_count + lost
    return Measured(sum(count for _, count in latency) + faults, faults, latency)


def since(start: Measured, now: Measured) -> Measured:
    """What came between the two."""
    before = dict(start.latency)
    more = ((bucket, count - before.get(bucket, 0)) for bucket, count in now.latency)
    latency = tuple((bucket, count) for bucket, count in more if count > 0)
    faults = max(0, now.faults - start.faults)
    return Measured(sum(count for _, count in latency) + faults, faults, latency)


def judge(before: Measured, seen: Seen, seconds: float, seconds_left: float) -> Judgement:
    """``before`` is what the previous version did; ``seconds`` the whole time of probation."""
    for reason in (_broken(seen), _failing(before, seen.calls), _slow(before, seen.calls)):
        if reason:
            return Judgement(Verdict.ROLL_BACK, reason)
    if seconds_left > 0:
        return Judgement(Verdict.WATCHING)
    return Judgement(Verdict.COMMIT, _proven(seen.calls, seconds))


def _broken(seen: Seen) -> str:
    if seen.state in _GIVEN_UP:
        return seen.why_not_ready or "its engine could not be started"
    if seen.restarts:
        return seen.why_not_ready or "its engine died and was started again"
    return ""


def _failing(before: Measured, now: Measured) -> str:
    if now.faults < limits.probation_faults_min:
        return ""
    known = before if before.calls >= limits.probation_baseline_calls_min else None
    if more_often(now, known) <= limits.probation_faults_tolerated:
        return ""
    then = (
        f"of the previous version {before.faults:,} of {before.calls:,}" if known else "too few came before to compare"
    )
    return f"{now.faults:,} of {now.calls:,} calls failed; {then}"


def more_often(now: Measured, before: Measured | None) -> float:
    """By how much, at least, the share of failures has grown; of an unknown ``before``, from none.

    Newcombe's interval for a difference of proportions (1998, method 10), from Wilson's for each of them.
    """
    share = now.faults / now.calls
    low = _wilson(now)[0]
    if before is None:
        return low
    then = before.faults / before.calls
    high = _wilson(before)[1]
    return share - then - sqrt((share - low) ** 2 + (high - then) ** 2)


def _wilson(counted: Measured) -> tuple[float, float]:
    """The bounds of the true share of failures (Wilson 1927)."""
    n, z2 = counted.calls, limits.probation_deviations**2
    share = counted.faults / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = limits.probation_deviations * sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _slow(before: Measured, now: Measured) -> str:
    for rule in _REGRESSIONS:
        if min(_answered(before), _answered(now)) < rule.calls_min:
            continue
        then_ms = _quantile_ms(before, rule.quantile, limits.probation_deviations)
        now_ms = _quantile_ms(now, rule.quantile, -limits.probation_deviations)
        if now_ms > max(rule.factor * then_ms, then_ms + rule.floor_ms):
            likely_now, likely_then = _quantile_ms(now, rule.quantile), _quantile_ms(before, rule.quantile)
            return (
                f"{rule.called} of its calls takes {likely_now:.3g} ms; of the previous version's {likely_then:.3g} ms"
            )
    return ""


def _answered(counted: Measured) -> int:
    return counted.calls - counted.faults


def _quantile_ms(counted: Measured, quantile: float, deviations: float = 0.0) -> float:
    """A quantile, or a bound of it so many standard deviations off: the order statistics that far from its own."""
    n = _answered(counted)
    place = n * quantile + deviations * sqrt(n * quantile * (1 - quantile))
    return nth_us(counted.latency, max(1, min(n, round(place)))) / 1000


def _proven(now: Measured, seconds: float) -> str:
    if not now.calls:
        return f"no calls came in {seconds:g} s, so nothing spoke against it"
    return f"{now.calls - now.faults:,} of {now.calls:,} calls answered in {seconds:g} s"
