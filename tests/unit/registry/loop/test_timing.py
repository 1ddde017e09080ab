"""When boxes poll: each at its own place, and never all at one moment."""

import pytest

from appliance.registry.loop.timing import after_failure_s, next_poll_s
from appliance.registry.sync.planner import SyncPlan, Waiting
from appliance.registry.sync.reasons import Reason, Why
from tests.support.sync_facts import NOW, release

BOXES = [f"box-{number}" for number in range(1000)]
HOUR = 3600.0


def waits(why: Why, until_s: int) -> SyncPlan:
    return SyncPlan(waiting=(Waiting(release(), Reason(why, "", until_s)),))


def test_boxes_that_get_their_power_back_together_are_spread_over_the_interval() -> None:
    at = sorted(next_poll_s(SyncPlan(), box, HOUR, NOW) for box in BOXES)
    assert max(sum(1 for each in at if minute * 60 <= each < minute * 60 + 60) for minute in range(61)) < 45
    assert at[0] >= HOUR / 10
    assert at[-1] <= HOUR * 1.1


@pytest.mark.parametrize("box", BOXES[:20])
def test_a_box_keeps_its_place(box: str) -> None:
    now = NOW + next_poll_s(SyncPlan(), box, HOUR, NOW)
    for _ in range(5):
        seconds = next_poll_s(SyncPlan(), box, HOUR, now)
        assert seconds == pytest.approx(HOUR, abs=1e-3)
        now += seconds


def test_a_window_is_met_soon_after_it_opens_by_each_box_at_another_moment() -> None:
    at = [next_poll_s(waits(Why.WINDOW, NOW + 1000), box, 24 * HOUR, NOW) for box in BOXES]
    late = [each for each in at if each >= 1000]
    assert len(late) > 900
    assert max(late) <= 1300
    assert len({int(each) for each in late}) > 200


def test_a_failed_update_is_tried_in_its_time_and_a_wave_is_met_by_the_next_poll() -> None:
    assert next_poll_s(waits(Why.RETRY, NOW + 60), "box", 24 * HOUR, NOW) == pytest.approx(60)
    assert next_poll_s(waits(Why.RETRY, NOW - 60), "box", 24 * HOUR, NOW) == 1.0
    assert next_poll_s(waits(Why.WAVE, NOW + 60), "box", HOUR, NOW) == next_poll_s(SyncPlan(), "box", HOUR, NOW)


def test_after_failures_ever_longer_up_to_the_interval() -> None:
    def low(low: float, high: float) -> float:
        assert (low, high) == (0.9, 1.1)
        return low

    found = [after_failure_s(failures, HOUR, low) for failures in (1, 2, 3, 8, 10**6)]
    assert found == pytest.approx([27, 54, 108, 3240, 3240])
