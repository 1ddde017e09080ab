"""Maintenance windows against a wall clock that goes over midnight, leaves an hour out and has one twice."""

from datetime import datetime, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import windows as written
from appliance.registry.sync.windows import is_open, machine_zone, opens_s
from appliance.windows import Window

BERLIN = ZoneInfo("Europe/Berlin")
# Clocks go back and forward by half an hour; and at midnight.
LORD_HOWE, SANTIAGO = ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/Santiago")


def at(text: str, zone: tzinfo = BERLIN, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp())


def parsed(*texts: str) -> list[Window]:
    return [written.parse(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        ("22:00-05:00", "2026-06-01 21:59:59", False),
        ("22:00-05:00", "2026-06-01 22:00:00", True),
        ("22:00-05:00", "2026-06-02 00:00:00", True),
        ("22:00-05:00", "2026-06-02 04:59:59", True),
        ("22:00-05:00", "2026-06-02 05:00:00", False),
        ("09:00-17:00", "2026-06-02 12:00:00", True),
        ("09:00-17:00", "2026-06-02 17:00:00", False),
        ("00:00-24:00", "2026-06-02 23:59:59", True),
        # 6 June 2026 is a Saturday.
        ("sat,sun 00:00-24:00", "2026-06-05 23:59:59", False),
        ("sat,sun 00:00-24:00", "2026-06-06 00:00:00", True),
        ("sat,sun 00:00-24:00", "2026-06-08 00:00:00", False),
        ("fri 22:00-05:00", "2026-06-06 04:00:00", True),
        ("fri 22:00-05:00", "2026-06-05 04:00:00", False),
        ("sun 22:00-05:00", "2026-06-08 04:00:00", True),
        # In spring two o'clock is three o'clock (29 March 2026), in autumn it comes twice (25 October).
        ("02:00-03:00", "2026-03-29 03:00:00", False),
        ("02:30-04:00", "2026-03-29 03:00:00", True),
        ("22:00-02:30", "2026-03-29 03:00:00", False),
    ],
)
def test_open_or_not(text: str, now: str, expected: bool) -> None:
    assert is_open(parsed(text), at(now), BERLIN) is expected


def test_the_hour_that_comes_twice() -> None:
    for fold in (0, 1):
        assert is_open(parsed("02:00-02:30"), at("2026-10-25 02:15", fold=fold), BERLIN)
        assert not is_open(parsed("02:00-02:30"), at("2026-10-25 02:45", fold=fold), BERLIN)


def test_no_windows_are_always_open() -> None:
    assert is_open([], 0, BERLIN)
    assert opens_s([], 7, BERLIN) == 7


@pytest.mark.parametrize(
    ("texts", "now", "expected"),
    [
        (["22:00-05:00"], "2026-06-01 12:00:30", "2026-06-01 22:00"),
        (["22:00-05:00"], "2026-06-01 23:00", "2026-06-01 23:00"),
        (["sat 10:00-11:00"], "2026-06-06 11:00", "2026-06-13 10:00"),
        (["sat 10:00-11:00", "wed 09:00-10:00"], "2026-06-06 11:00", "2026-06-10 09:00"),
        (["02:00-03:00"], "2026-03-29 01:00", "2026-03-30 02:00"),
        (["02:30-04:00"], "2026-03-29 01:00", "2026-03-29 03:00"),
        (["sun 02:00-03:00"], "2026-03-28 12:00", "2026-04-05 02:00"),
        (["sun 02:00-03:00"], "2026-03-22 03:00", "2026-04-05 02:00"),
    ],
)
def test_when_the_next_one_opens(texts: list[str], now: str, expected: str) -> None:
    assert opens_s(parsed(*texts), at(now), BERLIN) == at(expected)


def test_a_window_that_began_before_the_repeated_hour_opens_again_in_it() -> None:
    # Open until the first half past two, closed, and open again when it is two once more.
    assert opens_s(parsed("00:00-02:30"), at("2026-10-25 02:45", fold=0), BERLIN) == at("2026-10-25 02:00", fold=1)


ZONES = st.sampled_from([BERLIN, LORD_HOWE, SANTIAGO, ZoneInfo("Asia/Kathmandu"), timezone.utc])
DAYS = st.sets(st.integers(0, 6), min_size=1).map(frozenset)
WINDOWS = st.builds(
    lambda start, minutes, days: Window(start, (start + minutes) % 1440 or 1440, days),
    st.integers(0, 1439),
    st.integers(1, 1439),
    DAYS,
)
# Around the changes of these zones in 2026.
CHANGES = [
    at("2026-03-29 01:00"),
    at("2026-10-25 01:00"),
    at("2026-04-05 01:00", LORD_HOWE),
    at("2026-09-05 22:00", SANTIAGO),
]


@settings(max_examples=60, deadline=None)
@given(st.lists(WINDOWS, min_size=1, max_size=3), st.sampled_from(CHANGES), st.integers(-1500, 1500), ZONES)
def test_as_somebody_who_looks_every_minute(found: list[Window], change_s: int, minutes: int, zone: tzinfo) -> None:
    now_s = change_s + minutes * 60
    opens = opens_s(found, now_s, zone)
    looked = next(at_s for at_s in range(now_s, now_s + 16 * 86_400, 60) if is_open(found, at_s, zone))
    assert opens == looked


def test_the_machines_zone(tmp_path: Path) -> None:
    assert machine_zone(tmp_path / "none") is timezone.utc
    (tmp_path / "bad").write_bytes(b"TZif but no more")
    assert machine_zone(tmp_path / "bad") is timezone.utc
    good = Path("/usr/share/zoneinfo/Europe/Berlin")
    if good.exists():
        found = machine_zone(good)
        assert is_open(parsed("02:00-03:00"), at("2026-06-01 02:30"), found)
