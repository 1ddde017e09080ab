"""WWW-Authenticate (RFC 9110, 11.6.1), as registries send it: Basic, or Bearer with the realm that gives tokens out."""

import re
from typing import NamedTuple

from appliance import limits

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf"[ \t,]*({_WORD})[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|({_WORD}))")
_SCHEME = re.compile(rf"[ \t,]*({_WORD})(?:[ \t]+|$|(?=,))")


class Challenge(NamedTuple):
    """``scheme`` in lower case, and its parameters."""

    scheme: str
    parameters: dict[str, str]


def parse(header: str) -> list[Challenge]:
    """All challenges of the header; what can't be read ends the list."""
    found: list[Challenge] = []
    at = 0
    while at < len(header) and len(header) <= limits.http_header_chars_max:
        scheme = _SCHEME.match(header, at)
        if scheme is None:
            break
        at = scheme.end()
        parameters: dict[str, str] = {}
        while match := _PARAMETER.match(header, at):
            name, quoted, plain = match.groups()
            parameters[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            at = match.end()
        found.append(Challenge(scheme.group(1).lower(), parameters))
    return found
