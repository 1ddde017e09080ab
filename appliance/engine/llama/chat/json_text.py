"""JSON out of untrusted text: bounded before it is parsed, and found in a stream by its brackets."""

import json
import re
from typing import Any, NoReturn

from appliance import limits
from appliance.engine.llama.vocab import utf8
from appliance.errors import InvalidArgument

# Strings whole, so that their brackets don't count; an unfinished one ends the text and is json's to refuse.
_STRING_OR_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.S)


def parse_object(text: str, what: str, bytes_max: int, reason: str) -> dict[str, Any]:
    """The JSON object that ``text`` is. InvalidArgument (``reason``) says what of ``what`` is wrong with it."""
    size = len(utf8(text, what))
    if size > bytes_max:
        raise InvalidArgument(f"{what} has {size:,} bytes, at most {bytes_max:,} are allowed", reason=reason)
    if _depth(text) > limits.constraint_depth_max:
        raise InvalidArgument(f"{what} is nested deeper than {limits.constraint_depth_max}", reason=reason)
    try:
        value = json.loads(text, parse_constant=_no_constant)
        # An escaped lone surrogate is Unicode for json, but not for the tokenizer.
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise InvalidArgument(f"{what} is not valid JSON", reason=reason) from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what} must be a JSON object", reason=reason)
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _depth(text: str) -> int:
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        first = match.group()[0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
    return deepest


class ObjectEnd:
    """Finds where a JSON object ends that comes in pieces; constant work a character."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> int:
        """How many characters of ``text`` belong to the object if it ends in them, else -1. It begins with "{"."""
        for index, character in enumerate(text):
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif character == "\\":
                    self._escaped = True
                elif character == '"':
                    self._in_string = False
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return index + 1
        return -1
