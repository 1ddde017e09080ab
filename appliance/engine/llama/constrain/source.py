"""Bounds on what a caller wrote, checked before any parser that recurses sees it.

llguidance's own limits count what it has built already. They bound neither its parsers' stack (a chain of 3,000
references ends the process) nor the time it takes to build (which grows with the square of the size): these do.
"""

import re

from appliance import limits
from appliance.engine.llama.vocab import utf8
from appliance.errors import InvalidArgument

# Strings, classes and escapes whole: what they hold does not nest.
_BRACKETS = {
    "json": re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.S),
    "regex": re.compile(r"\\.|\[\^?\]?(?:[^\[\]\\]|\\.)*\]|[(\[]|[)\]]", re.S),
    "gbnf": re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\#[^\n]*|\(|\)', re.S),
}


def check_text(text: str, what: str, bytes_max: int) -> None:
    """InvalidArgument when ``text`` is not Unicode, blank, or larger than ``bytes_max`` in UTF-8."""
    size = len(utf8(text, what))
    if size > bytes_max:
        raise too_complex(f"{what} has {size:,} bytes, at most {bytes_max:,} are allowed")
    if not text.strip():
        raise invalid(f"{what} is empty")


class Depth:
    """How deep brackets nest; more than limits.constraint_depth_max is InvalidArgument."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._depth = 0

    def see(self, token: str) -> None:
        """Counts ``token`` if it is a bracket."""
        if token in {"(", "[", "{"}:
            self._depth += 1
            if self._depth > limits.constraint_depth_max:
                raise too_complex(f"{self._what} nests deeper than {limits.constraint_depth_max}")
        elif token in {")", "]", "}"}:
            self._depth -= 1


def check_depth(text: str, kind: str, what: str) -> None:
    """InvalidArgument when the brackets of ``text`` (json, regex or gbnf) nest too deep."""
    depth = Depth(what)
    for match in _BRACKETS[kind].finditer(text):
        depth.see(match.group())


def invalid(message: str) -> InvalidArgument:
    """What cannot be compiled at all."""
    return InvalidArgument(message, reason="CONSTRAINT_INVALID")


def too_complex(message: str) -> InvalidArgument:
    """What could be compiled if it had fewer or smaller parts."""
    return InvalidArgument(message, reason="CONSTRAINT_TOO_COMPLEX")
