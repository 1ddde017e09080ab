"""Finds schemas that no finite document satisfies: an object whose required part must hold such an object again.

llguidance compiles them, and a model would open brackets until max_tokens. A linked list is fine: its end is optional.
"""

from typing import Any
from urllib.parse import unquote

# Parts looked at before a schema is let pass: 0.05 s. Ordinary ones need their own number of parts, once or twice.
_LOOKS_MAX = 50_000


def endless(schema: dict[str, Any]) -> bool:
    """Whether ``schema``, a JSON Schema of bounded depth, is surely satisfied by no finite document."""
    references = sorted(_references(schema))
    if not references:
        return False
    search = _Search()
    targets = {reference: _resolve(schema, reference) for reference in references}
    # Each round proves more definitions finite; in the order of the last one's failures chains take one round.
    forwards = True
    while search.looks < _LOOKS_MAX:
        before = len(search.finite)
        for reference in references if forwards else reversed(references):
            if reference not in search.finite and search.is_finite(targets[reference]):
                search.finite.add(reference)
        if len(search.finite) == before:
            return not search.is_finite(schema) and search.looks < _LOOKS_MAX
        forwards = not forwards
    return False


class _Search:
    """``finite``: references that are known to end. Once there were too many ``looks``, everything is finite."""

    def __init__(self) -> None:
        self.finite: set[str] = set()
        self.looks = 0

    def is_finite(self, schema: Any) -> bool:
        """Whether a document may satisfy ``schema`` when only references known to be finite can be followed."""
        self.looks += 1
        if not isinstance(schema, dict) or self.looks > _LOOKS_MAX:
            return True
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in self.finite:
            return False
        for keyword in ("anyOf", "oneOf"):
            parts = _list(schema.get(keyword))
            if parts and not any(self.is_finite(part) for part in parts):
                return False
        return all(self.is_finite(part) for part in [*_list(schema.get("allOf")), *_required(schema)])


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
    found: set[str] = set()
    todo: list[Any] = [schema]
    while todo:
        part = todo.pop()
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
        elif isinstance(schema, list) and key.isdecimal() and len(key) < 6 and int(key) < len(schema):
            schema = schema[int(key)]
        else:
            return None
    return schema


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
