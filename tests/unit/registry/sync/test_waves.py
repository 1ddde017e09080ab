"""Waves and the places of polls: stable, even, and stopped by the publisher when he says so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.registry.release import Wave
from appliance.registry.sync import waves
from appliance.registry.sync.reasons import Why
from tests.support.sync_facts import NOW, release

# Places of this box: computed once, and never to change while boxes in the field count on them.
KNOWN = [("device-1", "press", "1.0.0", 1225), ("device-2", "press", "1.0.0", 81), ("device-1", "press", "1.0.1", 3692)]


@pytest.mark.parametrize(("device", "line", "version", "place"), KNOWN)
def test_places_never_change(device: str, line: str, version: str, place: int) -> None:
    assert waves.place(device, line, version) == place


def test_a_share_of_the_boxes_is_that_share() -> None:
    places = [waves.place(f"box-{n}", "press", "2.0.0") for n in range(20_000)]
    for percent in (1, 5, 25, 50):
        assert sum(place < percent * 100 for place in places) / 200 == pytest.approx(percent, rel=0.2)


def test_it_is_not_always_the_same_boxes_that_go_first() -> None:
    boxes = [f"box-{n}" for n in range(5000)]
    first = [{b for b in boxes if waves.place(b, "press", version) < 1000} for version in ("1.0.0", "2.0.0")]
    assert len(first[0] & first[1]) < 100


MINE = waves.place("device-1", "press", "1.0.0") / 100


@pytest.mark.parametrize(
    ("found", "words", "until_s"),
    [
        ((), "", 0),
        ((Wave(100, NOW),), "", 0),
        ((Wave(100, NOW + 1),), "opens at 2027-01-15 08:00 UTC", NOW + 1),
        ((Wave(0, NOW - 5),), "none of its waves", 0),
        ((Wave(MINE, NOW - 5),), "none of its waves", 0),
        ((Wave(MINE + 0.01, NOW - 5),), "", 0),
        ((Wave(1, NOW - 5), Wave(5, NOW + 60), Wave(100, NOW + 120)), "opens at", NOW + 120),
        # However they are listed.
        ((Wave(100, NOW + 120), Wave(1, NOW - 5), Wave(99.9, NOW + 60)), "opens at", NOW + 60),
        # Stopped halfway: only the latest that has begun counts.
        ((Wave(100, NOW - 10), Wave(0, NOW - 5)), "none of its waves", 0),
        ((Wave(100, NOW - 10), Wave(0, NOW - 5), Wave(100, NOW + 7)), "opens at", NOW + 7),
        # Two at the same moment: the larger.
        ((Wave(100, NOW), Wave(1, NOW)), "", 0),
    ],
)
def test_when_a_wave_comes(found: tuple[Wave, ...], words: str, until_s: int) -> None:
    reason = waves.waits(release(waves=found), "device-1", NOW)
    if not words:
        assert reason is None
        return
    assert reason is not None
    assert reason.why is Why.WAVE
    assert words in reason.words
    assert reason.until_s == until_s


def test_a_wave_far_beyond_any_calendar_is_still_said() -> None:
    reason = waves.waits(release(waves=(Wave(100, 1 << 60),)), "device-1", NOW)
    assert reason is not None
    assert "no calendar" in reason.words


@given(st.text(max_size=40), st.floats(1, 604_800), st.floats(0, 4e9))
def test_a_poll_comes_within_one_interval_and_then_every_interval(device: str, poll_s: float, now_s: float) -> None:
    first = waves.next_poll_s(device, poll_s, now_s)
    assert now_s <= first <= now_s + poll_s * 1.001
    again = waves.next_poll_s(device, poll_s, first + poll_s / 1000)
    assert again == pytest.approx(first + poll_s, abs=poll_s / 500 + 1e-3)


def test_boxes_that_start_together_poll_apart() -> None:
    times = sorted(waves.next_poll_s(f"box-{n}", 3600, NOW) - NOW for n in range(3600))
    in_each_minute = [sum(minute * 60 <= t < minute * 60 + 60 for t in times) for minute in range(60)]
    assert min(in_each_minute) > 30
    assert max(in_each_minute) < 95
