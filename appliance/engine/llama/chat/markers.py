"""Markers in answers (<think>, <tool_call>, [TOOL_CALLS]...): one token of the vocabulary, or text like any other.

Which of the two matters for a grammar: a control token is no text, so a literal would never match it.
"""

import json
import re

import msgspec

from appliance.engine.llama.vocab import Vocab

# What JSON calls white space; grammar and parser must agree on it.
WHITE = " \t\r\n"


class Marker(msgspec.Struct, frozen=True):
    """``token`` is its id where it is a single token, else None. ``control``: it adds no text to an answer."""

    text: str
    token: int | None = None
    control: bool = False

    @property
    def lark(self) -> str:
        """The marker as a grammar writes it."""
        return literal(self.text) if self.token is None else f"<[{self.token}]>"


def find_marker(vocab: Vocab, text: str) -> Marker:
    """How ``vocab`` writes ``text``."""
    tokens = vocab.tokenize(text.encode(), add_special=False, parse_special=True)
    if len(tokens) != 1:
        return Marker(text)
    return Marker(text, tokens[0], control=not vocab.piece(tokens[0]))


def literal(text: str) -> str:
    """A Lark string literal."""
    return json.dumps(text)


def pattern(text: str) -> str:
    """``text`` as a regular expression that can stand between slashes in Lark."""
    return re.escape(text).replace("/", r"\/")
