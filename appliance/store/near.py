"""Suggestions for what was probably meant."""

from collections.abc import Iterable


def hint(word: str, known: Iterable[str]) -> str:
    """``", did you mean X?"`` for the nearest of ``known``, or nothing when none is near."""
    # Only needed when something is wrong; half a megabyte of resident memory until then.
    import difflib

    by_lower = {name.lower(): name for name in known}
    matches = difflib.get_close_matches(word.strip('"').lower(), by_lower, n=1)
    return f", did you mean {by_lower[matches[0]]}?" if matches else ""
