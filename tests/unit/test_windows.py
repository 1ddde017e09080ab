"""Maintenance windows as operators write them."""

import pytest

from appliance.windows import EVERY_DAY, Window, parse


@pytest.mark.parametrize(
    ("text", "expected", "minutes"),
    [
        ("22:00-05:00", Window(1320, 300), 420),
        ("00:00-24:00", Window(0, 1440), 1440),
        ("00:00-00:01", Window(0, 1), 1),
        ("23:59-00:00", Window(1439, 0), 1),
        ("sat,sun 00:00-24:00", Window(0, 1440, frozenset({5, 6})), 1440),
        ("mon 22:00-21:59", Window(1320, 1319, frozenset({0})), 1439),
        ("mon,tue,wed,thu,fri,sat,sun 01:00-02:00", Window(60, 120), 60),
    ],
)
def test_written_and_read(text: str, expected: Window, minutes: int) -> None:
    assert parse(text) == expected
    assert expected.minutes == minutes
    assert parse(str(expected)) == expected


def test_days_are_shown_in_their_order() -> None:
    assert str(parse("sun,mon 01:00-02:00")) == "mon,sun 01:00-02:00"
    assert str(Window(0, 1440, EVERY_DAY)) == "00:00-24:00"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be a time from and to"),
        ("22-05", "must be a time from and to"),
        ("22:00 - 05:00", "must be a time from and to"),
        ("2:00-5:00", "must be a time from and to"),
        ("22:00-05:00\n", "must be a time from and to"),
        ("\u0662\u0662:00-05:00", "must be a time from and to"),
        ("Sat 22:00-05:00", "must be a time from and to"),
        ("24:00-05:00", "at the latest"),
        ("22:60-05:00", "22:60 is no time"),
        ("22:00-24:01", "24:01 is no time"),
        ("25:00-05:00", "25:00 is no time"),
        ("05:00-05:00", "the whole day is 00:00-24:00"),
        ("monday 22:00-05:00", "'monday' is no day; days are mon"),
        ("sat,,sun 22:00-05:00", "'' is no day"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)
