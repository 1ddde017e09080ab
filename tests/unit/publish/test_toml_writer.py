"""TOML that tomllib reads back as it was given."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.publish.toml_writer import dumps

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = TEXTS | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
VALUES = PLAIN | st.lists(PLAIN, max_size=4)
TABLES = st.recursive(
    st.dictionaries(TEXTS, VALUES, max_size=4),
    lambda inner: st.dictionaries(TEXTS, VALUES | inner | st.lists(inner, min_size=1, max_size=3), max_size=4),
    max_leaves=12,
)


@given(TABLES)
def test_read_back_as_given(document):
    assert tomllib.loads(dumps(document)) == document


@pytest.mark.parametrize("text", ["", "a\x7fb", 'quote " \\ \n\t\x00', "é — 🙂", "\u2028"])
def test_texts(text):
    assert tomllib.loads(dumps({"a": text, text or "k": 1})) == {"a": text, text or "k": 1}


def test_nan_and_none():
    read = tomllib.loads(dumps({"a": float("nan"), "b": None, "c": [float("inf"), -float("inf")]}))
    assert read["a"] != read["a"]
    assert "b" not in read
    assert read["c"] == [float("inf"), -float("inf")]


def test_what_toml_has_no_word_for():
    with pytest.raises(TypeError, match="bytes"):
        dumps({"a": b"x"})
