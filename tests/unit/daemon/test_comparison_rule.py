"""What follows from a comparison: a table of what was seen, and the verdict."""

import pytest

from appliance.comparison import Bounds, Comparison, Outcome, Plan, Side, Tally
from appliance.daemon.comparison_rule import Engines, judge, summary
from appliance.daemon.probation import Seen, Verdict
from appliance.types import ModelState
from appliance.versions import Measured
from appliance.worker.latency import bucket_of

WATCHING, COMMIT, ROLL_BACK = Verdict.WATCHING, Verdict.COMMIT, Verdict.ROLL_BACK
PLAN = Plan(calls=100, seconds=60.0, by_rule=True)
QUIET = Engines(Measured(), Seen(Measured(), 0, ModelState.READY))


def took(ms: float, calls: int) -> dict[int, int]:
    return {bucket_of(int(ms * 1000)): calls}


def tally(calls: int = 0, failed: int = 0, classified: int = 0, agreed: int = 0, **more: object) -> Tally:
    active, candidate = more.pop("ms", (0.0, 0.0))  # type: ignore[misc]  # two times of 30 pairs
    pairs = 30 if active else 0
    sides = Side(latency=took(active, pairs)), Side(calls, failed, took(candidate, pairs))
    return Tally(1, classified=classified, agreed=agreed, active=sides[0], candidate=sides[1])


@pytest.mark.parametrize(
    ("seen", "seconds", "verdict", "word"),
    [
        (tally(), 59.9, WATCHING, ""),
        (tally(), 60.0, COMMIT, "no calls came"),
        (tally(99), 1.0, WATCHING, ""),
        (tally(100), 1.0, COMMIT, "100 of 100"),
        (tally(98, 2), 1.0, COMMIT, "98 of 100"),  # two failures are an accident
        (tally(97, 3), 1.0, ROLL_BACK, "could not answer 3 of 100"),
        # Before the end only what is clear.
        (tally(60, 3), 1.0, WATCHING, ""),
        (tally(3, 3), 1.0, ROLL_BACK, "could not answer 3 of 6"),
        (tally(50, 2), 1.0, WATCHING, ""),
        (tally(50, classified=50, agreed=47), 1.0, WATCHING, ""),
        (tally(50, classified=50, agreed=30), 1.0, ROLL_BACK, "30 of 50 answers agree"),
        # At the end the share itself, if there are enough pairs.
        (tally(100, classified=100, agreed=98), 1.0, COMMIT, "98 of 100 answers agree"),
        (tally(100, classified=100, agreed=97), 1.0, ROLL_BACK, "at least 98 %"),
        (tally(100, classified=19, agreed=17), 1.0, COMMIT, ""),
        (tally(100, classified=20, agreed=18), 1.0, ROLL_BACK, "18 of 20"),
        (tally(100, ms=(10, 14)), 1.0, COMMIT, ""),
        (tally(100, ms=(10, 20)), 1.0, ROLL_BACK, "the median"),
        (tally(100, ms=(0.2, 2)), 1.0, COMMIT, ""),  # below the floor a factor is noise
        (tally(99, ms=(10, 20)), 1.0, WATCHING, ""),
    ],
)
def test_the_verdict(seen: Tally, seconds: float, verdict: Verdict, word: str) -> None:
    judgement = judge(PLAN, seen, QUIET, seconds)
    assert judgement.verdict is verdict
    assert word in judgement.reason


@pytest.mark.parametrize(
    ("bounds", "seen"),
    [
        (Bounds(failed_max=1.0), tally(10, 90)),
        (Bounds(agreement_min=0.0), tally(100, classified=100)),
        (Bounds(latency_ratio_max=0.0), tally(100, ms=(1, 1000))),
    ],
)
def test_a_bound_that_is_off_judges_nothing(bounds: Bounds, seen: Tally) -> None:
    assert judge(Plan(calls=100, bounds=bounds), seen, QUIET, 1.0).verdict is COMMIT
    assert judge(Plan(calls=100), seen, QUIET, 1.0).verdict is ROLL_BACK


@pytest.mark.parametrize(
    ("candidate", "word"),
    [
        (Seen(Measured(), 0, ModelState.QUARANTINED, "it died 6 times"), "died 6 times"),
        (Seen(Measured(), 1, ModelState.READY), "died"),
        (Seen(Measured(), 0, None), "could not be started"),
        (Seen(Measured(60, 30, ((bucket_of(1000), 30),)), 0, ModelState.READY), "30 of 60 calls failed"),
        (Seen(Measured(60, 0, ((bucket_of(90_000), 60),)), 0, ModelState.READY), "median"),
    ],
)
def test_what_engines_tell_decides_at_once(candidate: Seen, word: str) -> None:
    active = Measured(200, 0, ((bucket_of(1000), 200),))
    judgement = judge(PLAN, tally(), Engines(active, candidate), 1.0)
    assert judgement.verdict is ROLL_BACK
    assert word in judgement.reason


@pytest.mark.parametrize("plan", [Plan(), Plan(calls=0, seconds=0.0, by_rule=True)])
def test_what_has_no_end_does_not_end(plan: Plan) -> None:
    assert judge(plan, tally(10**6), QUIET, 1e9).verdict is WATCHING


def test_the_summary_names_what_was_seen() -> None:
    seen = tally(98, 2, classified=50, agreed=49, ms=(1.0, 2.0))
    seen.offered, seen.taken, seen.pairs, seen.numeric, seen.distance_max = 1000, 100, 30, 30, 0.25
    text = summary(Comparison("m", "2", "1", PLAN, outcome=Outcome.PROMOTED, reason="all is well", tally=seen))
    for word in ("compared with 1", "100 of 1,000", "2 failed", "49 of 50", "0.25", "promoted, all is well"):
        assert word in text
