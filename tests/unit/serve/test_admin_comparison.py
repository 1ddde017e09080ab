"""What operators ask about comparisons: what is refused, what the supervisor is asked, and what is shown of one."""

from math import inf, nan

import pytest
from serve_rig import Supervisor

from appliance.comparison import (
    AskBeginComparison,
    AskEndComparison,
    Bounds,
    Comparison,
    Mode,
    Outcome,
    Plan,
    Side,
    Tally,
    plans_of,
)
from appliance.config import RegistryConfig
from appliance.errors import InvalidArgument
from appliance.pb.appliance.v1 import admin_pb2 as pb
from appliance.questions import Progress
from appliance.serve import admin_comparison
from appliance.worker.latency import bucket_of

CANARY, SHADOW = pb.BeginComparisonRequest.MODE_CANARY, pb.BeginComparisonRequest.MODE_SHADOW
GOOD = {"name": "m", "version": "2", "mode": CANARY, "percent": 5.0, "calls": 200}


def begin(**fields: object) -> tuple[Supervisor, list[pb.ComparisonResponse]]:
    supervisor = Supervisor()
    supervisor.answers[AskBeginComparison] = [Progress("loading", 1, 2), Comparison("m", "2", "1", Plan(), 7)]
    return supervisor, list(admin_comparison.begin(supervisor, pb.BeginComparisonRequest(**(GOOD | fields))))


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"version": ""}, "which version"),
        ({"mode": 0}, "canary or a shadow"),
        ({"mode": 77}, "canary or a shadow"),
        ({"percent": 0}, "above 0"),
        ({"percent": -1}, "percent is from 0 to 100"),
        ({"percent": 100.1}, "percent is from 0 to 100"),
        ({"percent": nan}, "percent is from 0 to 100"),
        ({"calls": 10**9 + 1}, "calls is from"),
        ({"seconds": -1}, "seconds is from"),
        ({"seconds": inf}, "seconds is from"),
        ({"failed_max": 1.1}, "failed_max"),
        ({"agreement_min": nan}, "agreement_min"),
        ({"latency_ratio_max": -1}, "latency_ratio_max"),
        ({"probation_seconds": 1e9}, "probation_seconds"),
        ({"calls": 0, "by_rule": True}, "needs an end"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(InvalidArgument, match=word):
        begin(**fields)


@pytest.mark.parametrize(
    ("fields", "plan"),
    [
        ({}, Plan(Mode.CANARY, 5.0, 200)),
        ({"mode": SHADOW, "percent": 100, "calls": 0}, Plan(Mode.SHADOW, 100.0)),
        (
            {"seconds": 9, "by_rule": True, "probation_seconds": 3},
            Plan(Mode.CANARY, 5.0, 200, 9.0, True, Bounds(), 3.0),
        ),
        # What is not given is as usual; what is 0 is 0.
        ({"failed_max": 0.0}, Plan(Mode.CANARY, 5.0, 200, bounds=Bounds(failed_max=0.0))),
        ({"agreement_min": 0.0, "latency_ratio_max": 0.0}, Plan(Mode.CANARY, 5.0, 200, bounds=Bounds(0.01, 0.0, 0.0))),
    ],
)
def test_the_plan_is_handed_on(fields: dict[str, object], plan: Plan) -> None:
    supervisor, answers = begin(**fields)
    assert supervisor.asked == [AskBeginComparison("m", "2", plan)]
    assert [(a.done, a.text) for a in answers] == [(False, "loading"), (True, "")]


def test_an_end_is_handed_on() -> None:
    supervisor = Supervisor()
    supervisor.answers[AskEndComparison] = [Comparison("m", "2", outcome=Outcome.PROMOTED)]
    answers = list(admin_comparison.end(supervisor, pb.EndComparisonRequest(name="m", promote=True)))
    assert supervisor.asked == [AskEndComparison("m", True)]
    assert answers[-1].outcome == "promoted"


def test_all_of_it_is_shown() -> None:
    times = {bucket_of(1_000): 90, bucket_of(9_000): 10}
    tally = Tally(7, 100, 50, pairs=50, numeric=4, relative_sum=2.0)
    tally.candidate = Side(49, 1, times, {bucket_of(500): 1}, 1000, 2_000_000_000)
    shown = admin_comparison.response(Comparison("m", "2", "1", Plan(), 7, tally=tally))
    side = shown.candidate
    assert (side.version, shown.active.version, side.calls, side.failed) == ("2", "1", 49, 1)
    assert 1.0 <= side.median_ms <= 1.25
    assert 9.0 <= side.p99_ms <= 11.0
    assert (side.tokens_per_second, shown.relative_mean) == (500.0, 0.5)
    assert (shown.active.median_ms, shown.active.tokens_per_second) == (0.0, 0.0)


def test_the_configuration_says_how_updates_are_compared() -> None:
    assert plans_of(RegistryConfig()) == ()
    config = RegistryConfig(shadow_percent=100.0, canary_percent=5.0, compare_calls=7, compare_agreement_min=0.5)
    bounds = Bounds(0.01, 0.5, 1.5)
    assert plans_of(config) == (
        Plan(Mode.SHADOW, 100.0, 7, 600.0, True, bounds),
        Plan(Mode.CANARY, 5.0, 7, 600.0, True, bounds),
    )
