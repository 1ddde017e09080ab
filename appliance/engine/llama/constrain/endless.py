"""Finds schemas that no finite document satisfies: an object whose required part must hold such an object again.

llguidance compiles them, and a model would open brackets until max_tokens. A linked list is fine: its end is optional.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

# Each round proves at least one more definition finite, and most do in one or two; a schema that needs more is let pass.
_ROUNDS_MAX = 32


def endless(schema: dict[str, Any]) -> bool:
    """Whether ``schema``, a JSON Schema of bounded depth, is surely satisfied by no finite document."""
    references = sorted(_references(schema))
    targets = {reference: _resolve(schema, reference) for reference in references}
    finite = {reference for reference, target in targets.items() if target is None}
    for round_ in range(_ROUNDS_MAX):
        before = len(finite)
        for reference in references if round_ % 2 else references[::-1]:
            if reference not in finite and _finite(targets[reference], finite.__contains__):
                finite.add(reference)
        if len(finite) == before:
            return not _finite(schema, finite.__contains__)
    return False


def _finite(schema: Any, known: Callable[[str], bool]) -> bool:
    """Whether a document may satisfy ``schema`` when only references ``known`` to be finite can be followed."""
    if not isinstance(schema, dict):
        return True
    reference = schema.get("$ref")
    if isinstance(reference, str) and not known(reference):
        return False
    if not all(_finite(part, known) for part in _list(schema.get("allOf"))):
        return False
    for keyword in ("anyOf", "oneOf"):
        parts = _list(schema.get(keyword))
        if parts and not any(_finite(part, known) for part in parts):
            return False
    return all(_finite(part, known) for part in _required(schema))


def _required(schema: dict[str, Any]) -> list[Any]:
    """The parts that every document has which ``schema`` allows."""
    if schema.get("type") == "object":
        properties = schema.get("properties")
        others = schema.get("additionalProperties")
        named = properties if isinstance(properties, dict) else {}
        return [named.get(name, others) for name in _list(schema.get("required")) if isinstance(name, str)]
    least = schema.get("minItems")
    if schema.get("type") == "array" and isinstance(least, int) and least > 0:
        first = _list(schema.get("prefixItems"))
        return [*first[:least], *([schema.get("items")] if least > len(first) else [])]
    return []


def _references(schema: dict[str, Any]) -> set[str]:
    found, todo = set(), [schema]
    while todo:
        part: Any = todo.pop()
        if isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                found.add(part["$ref"])
            todo += part.values()
        elif isinstance(part, list):
            todo += part
    return found


def _resolve(schema: Any, reference: str) -> Any:
    """What a JSON pointer (RFC 6901) in a fragment refers to; None when there is nothing."""
    if not reference.startswith("#"):
        return None
    for step in reference[1:].split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(schema, dict):
            schema = schema.get(key)
        elif isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
            schema = schema[int(key)]
        else:
            return None
    return schema


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
