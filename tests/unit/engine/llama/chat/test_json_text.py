"""JSON from strangers: bounds before parsing, and the end of an object in a stream."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.llama.chat.json_text import ObjectEnd, parse_object
from appliance.errors import InvalidArgument

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=4)


@given(OBJECTS, st.booleans())
def test_what_json_wrote_is_read_again(value, escapes):
    assert parse_object(json.dumps(value, ensure_ascii=escapes), "it", 10**6, "R") == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"a": "', "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
        ('{"a": NaN}', "not valid JSON"),
        ('{"a": -Infinity}', "not valid JSON"),
        ('{"a": "\\ud800"}', "not valid JSON"),
        ('{"\\udfff": 1}', "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('"x"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"a": "\ud800"}', "not valid Unicode"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64"),
        ('{"a":' + "[" * 100_000, "nested deeper than 64"),
        ('{"a": "' + "x" * 2_000_000 + '"}', "at most 1,000,000 are allowed"),
    ],
)
def test_refused(text, words):
    with pytest.raises(InvalidArgument, match=words) as caught:
        parse_object(text, "the thing", 1_000_000, "SOME_REASON")
    assert caught.value.reason == ("INVALID_ARGUMENT" if "Unicode" in words else "SOME_REASON")
    assert "the thing" in caught.value.message


def test_brackets_in_strings_are_no_depth():
    assert parse_object('{"a": "' + "[" * 1000 + '\\"{"}', "it", 10**6, "R") == {"a": "[" * 1000 + '"{'}
    assert parse_object('{"a":' * 64 + "1" + "}" * 64, "it", 10**6, "R")


@pytest.mark.parametrize("text", ['"\\"' * 80_000, '{"' + "\\\\" * 120_000, "\\" * 250_000, '""' * 120_000])
def test_no_text_takes_long_to_refuse(text):
    began = time.process_time()
    with pytest.raises(InvalidArgument):
        parse_object(text, "it", 10**6, "R")
    assert time.process_time() - began < 1


@given(OBJECTS, st.text(), st.integers(1, 7))
def test_the_end_is_found_in_any_cut(value, rest, size):
    text = json.dumps(value)
    end, total = ObjectEnd(), 0
    for start in range(0, len(text + rest), size):
        length = end.feed((text + rest)[start : start + size])
        if length >= 0:
            total = start + length
            break
    assert total == len(text)
