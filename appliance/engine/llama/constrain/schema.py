"""JSON Schemas before llguidance sees them: bounded, nothing in them that it would pass over, and not without an end.

llguidance refuses what it knows and cannot follow (``not``, ``uniqueItems``, ...). Here is refused what it would ignore
(an older draft's keyword, references it reads otherwise), what would switch its strictness off (``x-guidance``), and a
schema that only infinite documents satisfy.
"""

import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

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
    return json.dumps(schema)


def check_schema(schema: Any, *, trusted: bool) -> int:
    """InvalidArgument when llguidance must not see ``schema``, which nests within bounds; gives its size in nodes.

    A ``trusted`` one may have options for llguidance.
    """
    if not isinstance(schema, dict | bool):
        raise invalid(f"{_WHAT} must be an object")
    if isinstance(schema, bool):
        return 1
    if _OPTIONS in schema and not trusted:
        raise invalid(f'"{_OPTIONS}" is no keyword of JSON Schema')
    nodes = regex_bytes = multiples = 0
    for part, keywords in _parts(schema):
        nodes += 1 + len(part)
        if isinstance(part, dict) and keywords:
            _check_keywords(part, root=part is schema)
            regex_bytes += _check_patterns(part)
            multiples += _states(part.get("multipleOf"))
    if nodes > limits.constraint_schema_nodes_max:
        raise too_complex(f"{_WHAT} has {nodes:,} values, at most {limits.constraint_schema_nodes_max:,} are allowed")
    if regex_bytes > limits.constraint_regex_bytes_max:
        raise too_complex(
            f"the patterns of {_WHAT} have {regex_bytes:,} bytes, "
            f"at most {limits.constraint_regex_bytes_max:,} are allowed"
        )
    if multiples > limits.constraint_multiple_of_max:
        raise too_complex(
            f'the digits of all "multipleOf" of {_WHAT}, read without a point, are {multiples:,} together, '
            f"at most {limits.constraint_multiple_of_max:,} are allowed"
        )
    if endless(schema):
        raise invalid(f"{_WHAT} cannot be satisfied: a required part refers to itself without an end")
    return nodes


def _parts(schema: dict[str, Any]) -> Iterator[tuple[dict[str, Any] | list[Any], bool]]:
    """Every object and list of ``schema``, and whether it has keywords."""
    todo: list[tuple[Any, bool]] = [(schema, True)]
    while todo:
        part, keywords = todo.pop()
        yield part, keywords
        if isinstance(part, list):
            todo += [(item, keywords) for item in part if isinstance(item, dict | list)]
            continue
        for key, value in part.items():
            if isinstance(value, dict | list):
                todo.append((value, keywords and key not in _NAMES and key not in _DATA))
                if keywords and key in _NAMES and isinstance(value, dict):
                    todo.pop()
                    yield value, False
                    todo += [(item, True) for item in value.values() if isinstance(item, dict | list)]


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
