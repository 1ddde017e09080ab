"""Text from elsewhere on one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.logs.plain import one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größer 模型", "größer 模型"),
        ("a\nb\r\nc\td", "a\\nb\\r\\nc\\td"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x85\u2028\u2029", "\\x85\\u2028\\u2029"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("no\u00a0break", "no\u00a0break"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_nothing_starts_a_line_or_moves_a_cursor(text: str, shown: str) -> None:
    assert one_line(text, 100) == shown


@pytest.mark.parametrize("text", ["x" * 101, "\n" * 100, "\n" * 5000])
def test_what_is_long_is_cut(text: str) -> None:
    assert len(one_line(text, 100)) == 100
    assert one_line(text, 100).endswith("...")


@given(st.text(alphabet=st.characters(), max_size=60))
def test_whatever_comes_is_one_printable_line(text: str) -> None:
    shown = one_line(text, 50)
    assert len(shown) <= 50
    assert len(shown.splitlines()) <= 1
    shown.encode()
