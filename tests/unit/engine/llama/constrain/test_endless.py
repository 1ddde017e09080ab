"""Which schemas have no finite document, and which only look so."""

from typing import Any

import pytest

from appliance import limits
from appliance.engine.llama.constrain.endless import endless
from appliance.engine.llama.constrain.source import check_depth, check_regex
from appliance.errors import InvalidArgument

ITSELF = {"$ref": "#"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object"}, False),
        ({"$ref": "#"}, True),
        ({"type": "object", "properties": {"a": ITSELF}}, False),
        ({"type": "object", "properties": {"a": ITSELF}, "required": ["a"]}, True),
        ({"type": "object", "additionalProperties": ITSELF, "required": ["a"]}, True),
        ({"properties": {"a": ITSELF}, "required": ["a"]}, False),
        ({"type": "array", "items": ITSELF}, False),
        ({"type": "array", "items": ITSELF, "minItems": 1}, True),
        ({"type": "array", "prefixItems": [{}], "items": ITSELF, "minItems": 1}, False),
        ({"type": "array", "prefixItems": [{}, ITSELF], "minItems": 2}, True),
        ({"anyOf": [ITSELF, {"type": "null"}]}, False),
        ({"anyOf": [ITSELF, ITSELF]}, True),
        ({"allOf": [ITSELF, {"type": "null"}]}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"type": "null"}}}, False),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "type": "null"}, False),
        ({"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": {"type": "null"}}}, False),
        ({"$ref": "#/$defs/none"}, False),
        ({"$ref": "#/anyOf/1", "anyOf": [{"type": "null"}, {"type": "null"}]}, False),
    ],
)
def test_endless(schema: dict[str, Any], expected: bool) -> None:
    assert endless(schema) is expected


def test_a_long_chain_is_looked_through() -> None:
    chain: dict[str, Any] = {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(1000)}
    assert not endless({"$ref": "#/$defs/0", "$defs": {**chain, "1000": {}}})
    assert endless({"$ref": "#/$defs/0", "$defs": {**chain, "1000": {"$ref": "#/$defs/0"}}})


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("a{10000}", True),
        ("a{10001}", False),
        ("a{1,}b{5,9999}", True),
        ("(a{100}){100}", True),
        ("(a{100}){101}", False),
        ("(a{100}b{100}){100}", True),
        ("(?:(a{99}){99}|b)c{99}", True),
        ("(?:(a{99}){99}|b){99}", False),
        ("a{100}+{200}", False),
        (r"\p{L}{10000}", True),
        (r"\(a{999}\){999}", True),
        ("[(]{999}[)]{999}", True),
        ("a{99999999999999999999}", False),
    ],
)
def test_repetitions(pattern: str, fits: bool) -> None:
    if fits:
        check_regex(pattern, "the pattern")
        return
    with pytest.raises(InvalidArgument) as raised:
        check_regex(pattern, "the pattern")
    assert raised.value.reason == "CONSTRAINT_TOO_COMPLEX"


MOST = limits.constraint_depth_max


@pytest.mark.parametrize(
    ("kind", "text"),
    [("json", "["), ("json", '{"a":'), ("regex", "("), ("regex", "[a"), ("gbnf", "("), ("gbnf", '"x" (')],
)
def test_depth(kind: str, text: str) -> None:
    check_depth(text * MOST, kind, "it")
    with pytest.raises(InvalidArgument, match="nests deeper"):
        check_depth(text * (MOST + 1), kind, "it")


@pytest.mark.parametrize(
    ("kind", "text"),
    [("json", r'"[\"[",'), ("regex", r"\("), ("regex", "[(]"), ("gbnf", '"("'), ("gbnf", "[(]"), ("gbnf", "# (\n")],
)
def test_brackets_in_text_do_not_nest(kind: str, text: str) -> None:
    check_depth(text * 1000, kind, "it")
