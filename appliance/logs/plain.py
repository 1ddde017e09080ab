"""Text from elsewhere made fit for one line of a log: nothing in it starts a line of its own or moves a cursor."""

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def one_line(text: str, chars_max: int) -> str:
    """``text`` cut to so many characters, with control characters, line ends and marks of direction written out.

    What is cut away is never looked at, so a text of any length costs the same.
    """
    cut = text if len(text) <= chars_max else text[: chars_max - 3] + "..."
    if cut.isprintable():
        return cut
    shown = "".join(char if char.isprintable() or char in _SPACES else _escaped(char) for char in cut)
    # Escapes are longer than what they stand for.
    return shown if len(shown) <= chars_max else shown[: chars_max - 3] + "..."


# Spaces that str.isprintable does not let pass, and that do no harm.
_SPACES = frozenset("\u00a0\u2007\u2009\u202f\u3000")


def _escaped(char: str) -> str:
    code = ord(char)
    return _NAMED.get(char) or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )
