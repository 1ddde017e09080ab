"""How numbers, times and foreign text are shown."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.cli import output


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "0.977 KiB"), (1536, "1.5 KiB"), (345 << 20, "345 MiB"), (24 << 30, "24 GiB"),
     (2**44, "16 TiB"), (2**60, "1048576 TiB")],
)  # fmt: skip
def test_size(count, text):
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (999, "0s"), (12_000, "12s"), (125_000, "2m 5s"), (7_384_000, "2h 3m"), (90_061_000, "1d 1h"), (86_400_000, "1d 0h")],
)  # fmt: skip
def test_duration(ms, text):
    assert output.duration(ms) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (99_999, "99999"), (100_000, "100k"), (999_949, "1000k"), (12_345_678, "12.3M"), (5 * 10**9, "5.0G"), (10**12, "1T")],
)  # fmt: skip
def test_count(number, text):
    assert output.count(number) == text


@given(st.integers(0, 10**12))
def test_counts_are_short(number):
    assert len(output.count(number)) <= 5


@given(st.text())
def test_nothing_foreign_controls_the_terminal(text):
    shown = output.printable(text)
    assert all(c in "\t\n" or not (ord(c) < 32 or 127 <= ord(c) < 160) for c in shown)
    assert "\n" not in output.line(text)


def test_moment():
    assert output.moment(0) == ""
    assert output.moment(1_700_000_000_000).startswith("2023-11-1")


@pytest.mark.parametrize(
    ("text", "shown"),
    [("short", "short"), ("x" * 9, "x" * 9), ("x" * 10, "xxxxxx..."), ("two\nlines", "two lines"), ("", "")],
)
def test_clipped(text, shown):
    assert output.clipped(text, 9) == shown


@given(st.floats(width=32))
def test_the_shortest_number_is_the_same_one(value):
    short = output.shortest(value)
    assert struct.pack("<f", short) == struct.pack("<f", value) or math.isnan(value)
    assert len(repr(short)) <= len(repr(value)) + 1


def test_an_fp32_is_shown_as_it_was_written():
    (value,) = struct.unpack("<f", struct.pack("<f", 0.02))
    assert (value, output.shortest(value)) == (0.019999999552965164, 0.02)
