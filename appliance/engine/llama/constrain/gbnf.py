"""GBNF, llama.cpp's own grammar syntax, turned into Lark by llguidance's script, which is Python and trusts its input."""

from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from appliance import limits
from appliance.engine.llama.constrain.source import check_depth, check_text, invalid

_WHAT = "the GBNF grammar"


def lark_of_gbnf(source: str) -> str:
    """The same grammar in Lark. InvalidArgument for one that is too large, nests too deep, or is no GBNF.

    16 kB take 60 ms: the script copies its position for every character.
    """
    check_text(source, _WHAT, limits.constraint_gbnf_bytes_max)
    check_depth(source, "gbnf", _WHAT)
    try:
        return gbnf_to_lark(source)
    except GbnfToLarkError as error:
        line = source.count("\n", 0, error.pos.pos) + 1
        raise invalid(f"{_WHAT} cannot be read in line {line}") from None
    except Exception:
        # Bare Exceptions for what it looks for, and others for what it doesn't expect.
        raise invalid(f'{_WHAT} is incomplete: it needs a rule "root", and a rule for every name, once') from None
