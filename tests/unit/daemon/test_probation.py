"""The decision of probation, in tables: what was before, what is seen, what follows."""

import random

import pytest

from appliance.daemon.probation import Judgement, Seen, Verdict, judge, measured, more_often, since
from appliance.types import EngineStats, ModelState
from appliance.versions import Measured
from appliance.worker.latency import bucket_of

READY = ModelState.READY
NONE = Measured()


def counted(answered: int, faults: int = 0, ms: float = 1.0, slow: int = 0, slow_ms: float = 0.0) -> Measured:
    """``answered`` calls, ``slow`` of them in ``slow_ms``, and ``faults`` more."""
    latency = {bucket_of(int(ms * 1000)): answered - slow}
    if slow:
        latency[bucket_of(int(slow_ms * 1000))] = slow
    return Measured(answered + faults, faults, tuple(sorted(latency.items())))


def verdict(before: Measured, now: Measured, left: float = 10.0) -> Verdict:
    return judge(before, Seen(now, 0, READY), 60.0, left).verdict


W, C, R = Verdict.WATCHING, Verdict.COMMIT, Verdict.ROLL_BACK
GOOD = counted(100_000)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        # Too few failures decide nothing, whatever their share.
        (GOOD, counted(0, 1), W),
        (GOOD, counted(0, 2), W),
        (GOOD, counted(0, 3), R),
        (GOOD, counted(2, 2), W),
        # One in five, or one in ten, is seen within some dozen calls; three in a hundred may still be chance.
        (GOOD, counted(12, 3), R),
        (GOOD, counted(27, 3), R),
        (GOOD, counted(97, 3), W),
        (GOOD, counted(970, 30), R),
        # Up to the share that is tolerated nothing happens, with however many calls.
        (GOOD, counted(9_950, 50), W),
        (GOOD, counted(991_000, 9_000), W),
        (GOOD, counted(98_000, 2_000), R),
        # The previous version was as bad.
        (counted(800, 200), counted(800, 200), W),
        (counted(800, 200), counted(8_000, 2_000), W),
        (counted(800, 200), counted(500, 500), R),
        # Nothing, or too little, is known of it: the new one's failures are its own.
        (NONE, counted(24, 6), R),
        (NONE, counted(996, 4), W),
        (counted(50, 20), counted(24, 6), R),
        # It is known, but not well: the bound of its share is wide.
        (counted(100), counted(24, 6), R),
        (counted(100), counted(190, 10), W),
        (GOOD, counted(190, 10), R),
    ],
)
def test_failures(before: Measured, now: Measured, expected: Verdict) -> None:
    assert verdict(before, now) is expected


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (counted(1_000, ms=20), counted(1_000, ms=20), W),
        (counted(1_000, ms=20), counted(1_000, ms=30), W),
        (counted(1_000, ms=20), counted(1_000, ms=60), R),
        (counted(1_000, ms=20), counted(1_000, ms=5), W),
        # Below the floor a factor is noise.
        (counted(1_000, ms=0.3), counted(1_000, ms=3), W),
        (counted(1_000, ms=0.3), counted(1_000, ms=8), R),
        # Too few calls on either side.
        (counted(49, ms=20), counted(1_000, ms=60), W),
        (counted(1_000, ms=20), counted(49, ms=60), W),
        (counted(50, ms=20), counted(50, ms=60), R),
        (NONE, counted(1_000, ms=60_000), W),
        # Half of the calls slow: the median is neither, and its bound says so.
        (counted(1_000, ms=20), counted(100, ms=20, slow=55, slow_ms=100), W),
        (counted(1_000, ms=20), counted(100, ms=20, slow=80, slow_ms=100), R),
        # The slowest in a hundred.
        (counted(10_000, ms=20), counted(1_000, ms=20, slow=30, slow_ms=500), R),
        (counted(10_000, ms=20), counted(499, ms=20, slow=30, slow_ms=500), W),
        (counted(10_000, ms=20), counted(1_000, ms=20, slow=12, slow_ms=500), W),
        (counted(10_000, ms=20), counted(1_000, ms=20, slow=30, slow_ms=60), W),
        (counted(10_000, ms=20, slow=300, slow_ms=500), counted(1_000, ms=20, slow=30, slow_ms=500), W),
        # Failed calls don't count as answers: ninety of them leave ten, which are too few.
        (counted(1_000, 9_000, ms=20), counted(10, 90, ms=60), W),
    ],
)
def test_latency(before: Measured, now: Measured, expected: Verdict) -> None:
    assert verdict(before, now) is expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(NONE, 0, READY), W),
        (Seen(NONE, 0, ModelState.LOADING), W),
        (Seen(NONE, 1, READY), R),
        (Seen(counted(10_000), 1, READY), R),
        (Seen(NONE, 1, ModelState.RESTARTING, "its engine died (signal 6)"), R),
        (Seen(NONE, 0, ModelState.QUARANTINED, "its engine died"), R),
        (Seen(NONE, 0, ModelState.FAILED), R),
        (Seen(NONE, 0, None), R),
    ],
)
@pytest.mark.parametrize("left", [10.0, 0.0])
def test_engines(seen: Seen, expected: Verdict, left: float) -> None:
    if left == 0.0 and expected is W:
        expected = C
    judgement = judge(GOOD, seen, 60.0, left)
    assert judgement.verdict is expected
    assert bool(judgement.reason) == (expected is not W)


@pytest.mark.parametrize(
    ("now", "left", "expected"),
    [
        (NONE, 0.1, W),
        (NONE, 0.0, C),
        (counted(1_000), 0.1, W),
        (counted(1_000), -5.0, C),
        (counted(1_000, 2), 0.0, C),
        # Bad to the last: the end of the time excuses nothing.
        (counted(24, 6), 0.0, R),
        (counted(1_000, ms=100), 0.0, R),
    ],
)
def test_the_end_of_the_time(now: Measured, left: float, expected: Verdict) -> None:
    assert verdict(GOOD, now, left) is expected


@pytest.mark.parametrize(
    ("before", "seen", "left", "expected"),
    [
        (GOOD, Seen(NONE, 0, READY), 0.0, "no calls came in 60 s, so nothing spoke against it"),
        (GOOD, Seen(counted(1_998, 2), 0, READY), 0.0, "1,998 of 2,000 calls answered in 60 s"),
        (GOOD, Seen(counted(24, 6), 0, READY), 9.0, "6 of 30 calls failed; of the previous version 0 of 100,000"),
        (NONE, Seen(counted(24, 6), 0, READY), 9.0, "6 of 30 calls failed; too few came before to compare"),
        (GOOD, Seen(NONE, 1, READY), 9.0, "its engine died and was started again"),
        (GOOD, Seen(NONE, 1, ModelState.RESTARTING, "its engine died (signal 6)"), 9.0, "its engine died (signal 6)"),
        (GOOD, Seen(NONE, 0, None), 9.0, "its engine could not be started"),
        (
            counted(1_000, ms=20),
            Seen(counted(1_000, ms=60), 0, READY),
            9.0,
            "the median of its calls takes 65.5 ms; of the previous version's 20.5 ms",
        ),
    ],
)
def test_reasons(before: Measured, seen: Seen, left: float, expected: str) -> None:
    assert judge(before, seen, 60.0, left).reason == expected


def test_while_watching_there_is_no_reason() -> None:
    assert judge(GOOD, Seen(GOOD, 0, READY), 60.0, 1.0) == Judgement(Verdict.WATCHING, "")


def test_an_equally_good_version_is_hardly_ever_rolled_back() -> None:
    """Both fail one call in fifty; the new one is judged after every hundredth call, as its luck runs (seeded)."""
    luck = random.Random(7)
    before, rolled_back = counted(98_000, 2_000), 0
    for _ in range(200):
        faults = 0
        for calls in range(100, 3_001, 100):
            faults += sum(luck.random() < 0.02 for _ in range(100))
            if verdict(before, counted(calls - faults, faults)) is R:
                rolled_back += 1
                break
    assert rolled_back <= 2


@pytest.mark.parametrize(
    ("now", "before", "low", "high"),
    [
        (counted(80, 20), None, 0.100, 0.102),
        (counted(80, 20), counted(9_000, 1_000), 0.0, 0.001),
        (counted(8_000, 2_000), counted(9_000, 1_000), 0.08, 0.1),
        (counted(0, 5), counted(0, 100), -0.75, -0.65),
    ],
)
def test_the_difference_is_bounded_from_below(now: Measured, before: Measured | None, low: float, high: float) -> None:
    assert low < more_often(now, before) < high


def test_what_counters_say() -> None:
    stats = EngineStats(success_count=99, fail_count=50, fault_count=3, latency={8: 2, 3: 5})
    assert measured(stats, lost=2) == Measured(12, 5, ((3, 5), (8, 2)))


@pytest.mark.parametrize(
    ("start", "now", "expected"),
    [
        (NONE, counted(10, 1), counted(10, 1)),
        (counted(4, 1), counted(10, 3), counted(6, 2)),
        (counted(10, 1), counted(10, 1), NONE),
        # The engine was started anew, and its counters with it.
        (counted(10, 5), counted(2, 1, ms=90), Measured(2, 0, counted(2, ms=90).latency)),
    ],
)
def test_since(start: Measured, now: Measured, expected: Measured) -> None:
    assert since(start, now) == expected
