"""JSON Schemas before llguidance sees them: bounded, nothing in them that it would pass over, and not without an end.

llguidance refuses what it knows and cannot follow (``not``, ``uniqueItems``, ...). Here is refused what it would ignore
(an older draft's keyword, references it reads otherwise), what would switch its strictness off (``x-guidance``), and a
schema that only infinite documents satisfy.
"""

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from appliance import limits
from appliance.engine.llama.constrain.endless import endless
from appliance.engine.llama.constrain.source import check_depth, check_regex, check_text, invalid, too_complex

_WHAT = "the JSON Schema"
# Keywords that say which documents are valid, and that llguidance passes over in silence.
_IGNORED = frozenset({"additionalItems", "$recursiveRef", "extends", "disallow", "divisibleBy"})
# Keywords whose value maps names (of properties, of definitions) to schemas: their keys are no keywords.
_NAMES = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
# Keywords whose value is a document or a remark, and no schema.
_DATA = frozenset({"const", "enum", "default", "examples", "title", "description", "$comment"})
_MERGING = frozenset({"anyOf", "oneOf", "$ref"})
_REMARKS = frozenset(
    {"title", "description", "default", "examples", "$comment", "$schema", "$id", "$defs", "definitions"}
)
_OPTIONS = "x-guidance"


def parse_schema(text: str) -> str:
    """The schema that ``text`` is, written anew: one JSON value, whatever a JSON parser makes of doubtful text.

    InvalidArgument says what is wrong with it.
    """
    check_text(text, _WHAT, limits.constraint_bytes_max)
    check_depth(text, "json", _WHAT)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError):
        raise invalid(f"{_WHAT} is not valid JSON") from None
    check_schema(schema, trusted=False)
    if schema is False:
        raise invalid(f"{_WHAT} cannot be satisfied: it is false")
    return "{}" if schema is True else json.dumps(schema)


class Costs(NamedTuple):
    """What a schema costs to compile: its values, the bytes of its expressions, the states of its divisions."""

    nodes: int = 0
    regex_bytes: int = 0
    states: int = 0

    def plus(self, other: "Costs") -> "Costs":
        """Both together."""
        return Costs(*map(sum, zip(self, other, strict=True)))

    def check(self, what: str) -> None:
        """InvalidArgument when ``what`` costs too much."""
        for cost, most, name in (
            (self.nodes, limits.constraint_schema_nodes_max, "values"),
            (self.regex_bytes, limits.constraint_regex_bytes_max, "bytes of patterns"),
            (self.states, limits.constraint_multiple_of_max, "as the sum of all multipleOf, read without their points"),
        ):
            if cost > most:
                raise too_complex(f"{what} has {cost:,} {name}, at most {most:,} are allowed")


def check_schema(schema: Any, *, trusted: bool) -> Costs:
    """InvalidArgument when llguidance must not see ``schema``, which nests within bounds; gives its costs.

    A ``trusted`` one may have options for llguidance.
    """
    if not isinstance(schema, dict | bool):
        raise invalid(f"{_WHAT} must be an object")
    costs = Costs()
    if isinstance(schema, bool):
        return costs
    if _OPTIONS in schema and not trusted:
        raise invalid(f'"{_OPTIONS}" is no keyword of JSON Schema')
    for part, keywords in _parts(schema):
        costs = costs.plus(Costs(1 + len(part)))
        if isinstance(part, dict) and keywords:
            _check_keywords(part, root=part is schema)
            costs = costs.plus(Costs(0, _check_patterns(part), _states(part.get("multipleOf"))))
    costs.check(_WHAT)
    _check_merges(schema)
    if endless(schema):
        raise invalid(f"{_WHAT} cannot be satisfied: a required part refers to itself without an end")
    return costs


def _check_merges(schema: dict[str, Any]) -> None:
    """What allOf and its kind lay over each other is one automaton, whose states multiply."""
    parts = [part for part, keywords in _parts(schema) if keywords and isinstance(part, dict)]
    if not any("allOf" in part or (_MERGING & part.keys() and part.keys() - _MERGING - _REMARKS) for part in parts):
        return
    patterns: set[Any] = set()
    for part in parts:
        patterns.update(part[key] for key in ("pattern", "format") if isinstance(part.get(key), str))
        if isinstance(part.get("patternProperties"), dict):
            patterns.update(part["patternProperties"])
    if len(patterns) > limits.constraint_merged_patterns_max:
        raise too_complex(
            f"{_WHAT} has {len(patterns):,} patterns, at most {limits.constraint_merged_patterns_max} are allowed "
            f"beside allOf, or beside anyOf, oneOf or $ref with other keywords"
        )
    if math.prod({states for part in parts if (states := _states(part.get("multipleOf")))}) > (
        limits.constraint_multiple_of_max
    ):
        raise too_complex(f"the multipleOf of {_WHAT} are too large beside allOf, anyOf, oneOf or $ref")


def _parts(schema: dict[str, Any]) -> Iterator[tuple[dict[str, Any] | list[Any], bool]]:
    """Every object and list of ``schema``, and whether it is a schema (or a list of some) itself."""
    todo: list[tuple[Any, bool, bool]] = [(schema, True, False)]
    while todo:
        part, is_schema, names = todo.pop()
        yield part, is_schema and not names
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            if isinstance(value, dict | list):
                inner = is_schema and (names or key not in _DATA)
                todo.append((value, inner, inner and not names and key in _NAMES and isinstance(value, dict)))


def _check_keywords(part: dict[str, Any], *, root: bool) -> None:
    for key in _IGNORED & part.keys():
        raise invalid(f'{_WHAT} has "{key}", which is not supported')
    if isinstance(part.get("items"), list):
        raise invalid(f'{_WHAT} has a list as "items", which is not supported: use "prefixItems"')
    reference = part.get("$ref")
    if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
        raise invalid(f'{_WHAT} refers to something outside of it: only "#" and "#/..." are supported')
    if "$id" in part and not root:
        raise invalid(f'{_WHAT} has "$id" in a part of it, which is not supported')
    for key in ("properties", "required"):
        names = part.get(key)
        if isinstance(names, dict | list) and len(names) > limits.constraint_properties_max:
            raise too_complex(
                f'{_WHAT} has {len(names):,} "{key}" in one object, '
                f"at most {limits.constraint_properties_max:,} are allowed"
            )


def _check_patterns(part: dict[str, Any]) -> int:
    """The bytes of the regular expressions in a schema, each of which is within bounds."""
    pattern, named = part.get("pattern"), part.get("patternProperties")
    patterns = [pattern] if isinstance(pattern, str) else []
    if isinstance(named, dict):
        if len(named) > limits.constraint_pattern_properties_max:
            raise too_complex(
                f"{_WHAT} has {len(named):,} patternProperties in one object, "
                f"at most {limits.constraint_pattern_properties_max} are allowed"
            )
        patterns += named
    for text in patterns:
        check_regex(text, f"a pattern of {_WHAT}")
    return sum(len(text.encode(errors="replace")) for text in patterns)


def _states(multiple: Any) -> int:
    """``multiple`` without its decimal point, or what stands for too many digits."""
    if isinstance(multiple, bool) or not isinstance(multiple, int | float):
        return 0
    if isinstance(multiple, int):
        return min(abs(multiple), limits.constraint_multiple_of_max + 1)
    digits = format(Decimal(repr(multiple)), "f").replace(".", "").lstrip("-0") if math.isfinite(multiple) else "9" * 9
    return int(digits[:9] or "0")
