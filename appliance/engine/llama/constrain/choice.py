"""A choice between texts, as a Lark grammar: each text one literal, written as JSON writes strings."""

import json

from appliance import limits
from appliance.engine.llama.constrain.source import invalid, too_complex
from appliance.engine.llama.vocab import utf8


def lark_of_choices(choices: tuple[str, ...]) -> str:
    """A grammar for exactly one of ``choices``; two that are equal count once.

    InvalidArgument when there is none, one is empty (an answer without a token is none), or they are too many.
    """
    if not choices:
        raise invalid("a choice needs at least one text")
    if len(choices) > limits.constraint_choices_max:
        raise too_complex(f"there are {len(choices):,} choices, at most {limits.constraint_choices_max:,} are allowed")
    size = 0
    for number, text in enumerate(choices):
        if not text:
            raise invalid(f"choice {number} is empty")
        size += len(utf8(text, f"choice {number}"))
    if size > limits.constraint_grammar_bytes_max:
        raise too_complex(f"the choices have {size:,} bytes, {limits.constraint_grammar_bytes_max:,} are allowed")
    return f"start: {' | '.join(map(_literal, dict.fromkeys(choices)))}\n"


def _literal(text: str) -> str:
    # DEL is allowed in JSON's strings, but not in llguidance's literals.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
