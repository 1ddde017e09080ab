"""JSON Schemas before llguidance sees them: bounded, nothing in them that it would pass over, and not without an end.

llguidance refuses what it knows and cannot follow (``not``, ``uniqueItems``, ...). Here is refused what it would ignore
(an older draft's keyword, references it reads otherwise), what would switch its strictness off (``x-guidance``), and a
schema that only infinite documents satisfy.
"""

import json
from collections.abc import Iterator
from typing import Any

from appliance import limits
from appliance.engine.llama.constrain.endless import endless
from appliance.engine.llama.constrain.source import check_depth, check_text, invalid, too_complex

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
    if _OPTIONS in schema and (not trusted or schema[_OPTIONS].get("lenient")):
        raise invalid(f'"{_OPTIONS}" is no keyword of JSON Schema')
    nodes = regex_bytes = 0
    for part, keywords in _parts(schema):
        nodes += 1 + len(part)
        if isinstance(part, dict) and keywords:
            _check_keywords(part, root=part is schema)
            regex_bytes += _regex_bytes(part)
    if nodes > limits.constraint_schema_nodes_max:
        raise too_complex(f"{_WHAT} has {nodes:,} values, at most {limits.constraint_schema_nodes_max:,} are allowed")
    if regex_bytes > limits.constraint_regex_bytes_max:
        raise too_complex(
            f"the patterns of {_WHAT} have {regex_bytes:,} bytes, "
            f"at most {limits.constraint_regex_bytes_max:,} are allowed"
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
    properties = part.get("properties")
    if isinstance(properties, dict) and len(properties) > limits.constraint_properties_max:
        raise too_complex(
            f"{_WHAT} has {len(properties):,} properties in one object, "
            f"at most {limits.constraint_properties_max:,} are allowed"
        )


def _regex_bytes(part: dict[str, Any]) -> int:
    pattern, patterns = part.get("pattern"), part.get("patternProperties")
    size = len(pattern.encode(errors="replace")) if isinstance(pattern, str) else 0
    if isinstance(patterns, dict):
        size += sum(len(name.encode(errors="replace")) for name in patterns)
    return size
