"""Text out of token pieces: UTF-8 and stop strings across their borders."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.llama.text import TextStream


def feed(pieces: list[bytes], stops: tuple[str, ...] = ()) -> tuple[list[str], str, str]:
    stream = TextStream(stops)
    out = [stream.push(piece) for piece in pieces]
    rest = stream.finish()
    return out, rest, stream.stopped_by


@pytest.mark.parametrize(
    ("pieces", "stops", "out", "rest", "stopped_by"),
    [
        ([b"hello", b" world"], (), ["hello", " world"], "", ""),
        ([b"a\xc3", b"\xa9b"], (), ["a", "\u00e9b"], "", ""),
        ([b"\xf0", b"\x9f", b"\x98", b"\x80"], (), ["", "", "", "\U0001f600"], "", ""),
        ([b"a\xe2\x82"], (), ["a"], "\ufffd", ""),
        ([b"a\xff", b"b"], (), ["a\ufffd", "b"], "", ""),
        ([b"one STOP two"], ("STOP",), ["one "], "", "STOP"),
        ([b"one S", b"T", b"OP two", b"three"], ("STOP",), ["one ", "", "", ""], "", "STOP"),
        ([b"one ST", b"art"], ("STOP",), ["one ", "STart"], "", ""),
        ([b"one ST"], ("STOP",), ["one "], "ST", ""),
        ([b"aaa", b"b"], ("aab",), ["a", ""], "", "aab"),
        ([b"abc", b"d"], ("bcd", "c"), ["ab", ""], "", "c"),
        ([b"xab", b"c"], ("abc", "bc"), ["x", ""], "", "abc"),
        ([b"x\xc3", b"\xa9y"], ("\u00e9",), ["x", ""], "", "\u00e9"),
        ([b"x\xc3"], ("\ufffd",), ["x"], "", "\ufffd"),
        ([b"", b""], ("a",), ["", ""], "", ""),
    ],
)
def test_table(pieces, stops, out, rest, stopped_by):
    assert feed(pieces, stops) == (out, rest, stopped_by)


def cut_at_first_stop(text: str, stops: list[str]) -> tuple[str, str]:
    ends = [(text.find(s) + len(s), -len(s), s) for s in stops if s in text]
    if not ends:
        return text, ""
    end, _, stop = min(ends)
    return text[: end - len(stop)], stop


@given(
    text=st.text(alphabet="ab\u00e9\U0001f600", max_size=40),
    stops=st.lists(st.text(alphabet="ab\u00e9\U0001f600", min_size=1, max_size=5), max_size=4, unique=True),
    cuts=st.lists(st.integers(0, 160), max_size=20),
)
def test_pieces_make_the_text_cut_before_its_first_stop(text, stops, cuts):
    raw = text.encode()
    borders = [0, *sorted(c for c in cuts if c < len(raw)), len(raw)]
    pieces = [raw[a:b] for a, b in itertools.pairwise(borders)]
    out, rest, stopped_by = feed(pieces, tuple(stops))
    assert ("".join(out) + rest, stopped_by) == cut_at_first_stop(text, stops)


@given(st.lists(st.binary(max_size=6), max_size=12))
def test_any_bytes_decode_as_a_whole(pieces):
    out, rest, _ = feed(pieces)
    assert "".join(out) + rest == b"".join(pieces).decode(errors="replace")


def test_many_long_stops_take_constant_work_a_character():
    stream = TextStream(tuple("a" * 200 + chr(98 + n) for n in range(16)))
    assert "".join(stream.push(b"a" * 50) for _ in range(100)) + stream.finish() == "a" * 5000
