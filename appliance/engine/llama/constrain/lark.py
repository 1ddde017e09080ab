"""Lark grammars before llguidance sees them: bounded, and with nothing in them that a caller must not say.

What a caller's grammar may not have: control tokens (they would be in the conversation, and nobody would see them),
options of a schema that switch its strictness off, and attributes that end or cut a rule by other means than its text
(``stop``, ``max_tokens``): the answer would not be what the grammar says.
"""

import json
import re
from typing import Any

from appliance import limits
from appliance.engine.llama.constrain.schema import Costs, check_schema
from appliance.engine.llama.constrain.source import Depth, check_regex, check_text, invalid, too_complex

_WHAT = "the grammar"
# llguidance's lexical grammar, as far as it matters here. What else there is consists of names, numbers and operators.
_TOKEN = re.compile(
    r'"(?:\\.|[^"\\\n])*"|(?:\#|//)[^\n]*|/(?:\\.|[^/\\])+/|<[^<>\s]+>|%(?:json|regex|llguidance)|\w+\s*=|[()\[\]{}?*+~]'
)
_ATTRIBUTES = frozenset({"stop", "stop_capture", "max_tokens", "temperature"})
_decoder = json.JSONDecoder()


def check_lark(source: str, *, trusted: bool) -> None:
    """InvalidArgument when llguidance must not see the grammar ``source``.

    One that we made (``trusted``) may name control tokens and give options to its schemas.
    """
    check_text(source, _WHAT, limits.constraint_bytes_max)
    depth = Depth(_WHAT)
    position = data_bytes = regex_bytes = repetitions = 0
    schemas = Costs()
    while match := _TOKEN.search(source, position):
        lexeme, position = match.group(), match.end()
        if lexeme.startswith("%"):
            value, position = _json_at(source, position, lexeme)
            data_bytes += position - match.end()
            if lexeme == "%json":
                schemas = schemas.plus(check_schema(value, trusted=trusted))
            elif lexeme == "%regex":
                data_bytes -= position - match.end()
        elif not trusted and lexeme[0] == "<":
            raise invalid(f"{_WHAT} names a control token: write what the answer shall say as text in quotes")
        elif not trusted and lexeme.endswith("=") and lexeme[:-1].rstrip() in _ATTRIBUTES:
            raise invalid(f'{_WHAT} has the attribute "{lexeme[:-1].rstrip()}", which is not supported')
        elif lexeme[0] == "/" and lexeme[1] != "/":
            check_regex(lexeme[1:-1], f"an expression of {_WHAT}")
            regex_bytes += len(lexeme.encode())
        else:
            depth.see(lexeme)
            repetitions += lexeme in "?*+{~"
    size = len(source.encode()) - data_bytes
    for cost, most, name in (
        (size, limits.constraint_grammar_bytes_max, "bytes without its schemas"),
        (regex_bytes, limits.constraint_grammar_regex_bytes_max, "bytes of expressions"),
        (repetitions, limits.constraint_rule_repetitions_max, "repetitions"),
    ):
        if cost > most:
            raise too_complex(f"{_WHAT} has {cost:,} {name}, at most {most:,} are allowed")
    schemas.check(_WHAT)


def _json_at(source: str, position: int, keyword: str) -> tuple[Any, int]:
    """The JSON value after a keyword, and where it ends."""
    while position < len(source) and source[position] in " \t\r\n":
        position += 1
    _check_json_depth(source, position)
    try:
        return _decoder.raw_decode(source, position)
    except (ValueError, RecursionError):
        raise invalid(f"{_WHAT} has no valid JSON after {keyword}") from None


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.S)


def _check_json_depth(source: str, position: int) -> None:
    # A value ends with the bracket that closes its first one.
    level = 0
    depth = Depth(f"a schema of {_WHAT}")
    for match in _JSON_TOKEN.finditer(source, position):
        bracket = match.group()
        depth.see(bracket)
        level += (bracket in "[{") - (bracket in "]}")
        if level <= 0:
            return
