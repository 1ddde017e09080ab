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


# A count, an escape, a class or a group's bracket, in a regular expression.
_REGEX = re.compile(r"\\[pPx]\{[^}]*\}|\\.|\[\^?\]?(?:[^\[\]\\]|\\.)*\]|\{(\d*)(,?)(\d*)\}|.", re.S)


def check_regex(text: str, what: str) -> None:
    """InvalidArgument when groups nest too deep, or a part repeats too often for a mask to be computed in time."""
    check_depth(text, "regex", what)
    # What the counts inside of each open group multiply to, and inside of the last part.
    open_groups, last = [1], 1
    for match in _REGEX.finditer(text):
        part = match.group()
        if part == "(":
            open_groups.append(1)
        elif part == ")":
            last = open_groups.pop() if len(open_groups) > 1 else 1
        elif match.group(1) or match.group(3):
            # int() refuses what has thousands of digits.
            last *= max(int(digits[:9] or "0") for digits in match.group(1, 3))
        elif part not in {"?", "*", "+"}:
            last = 1
        if last > limits.constraint_repetitions_max:
            raise too_complex(
                f"a part of {what} repeats {last:,} times, at most {limits.constraint_repetitions_max:,} are allowed"
            )
        open_groups[-1] = max(open_groups[-1], last)


def invalid(message: str) -> InvalidArgument:
    """What cannot be compiled at all."""
    return InvalidArgument(message, reason="CONSTRAINT_INVALID")


def too_complex(message: str) -> InvalidArgument:
    """What could be compiled if it had fewer or smaller parts."""
    return InvalidArgument(message, reason="CONSTRAINT_TOO_COMPLEX")
