"""TOML out of plain values: what tomllib reads back is what was given. The standard library only reads it."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(document: Mapping[str, Any]) -> str:
    """A document of tables, lists of tables, and values; ``None`` is left out."""
    return "\n".join(_table(document, ())).strip() + "\n"


def _table(table: Mapping[str, Any], at: tuple[str, ...]) -> list[str]:
    lines = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if _is_plain(value)]
    for key, value in table.items():
        path = (*at, key)
        if isinstance(value, Mapping) and not _is_plain(value):
            inner = _table(value, path)
            # A table with tables only needs no line of its own.
            header = [] if inner and not inner[0] else ["", f"[{_path(path)}]"]
            lines += [*header, *inner]
        elif not _is_plain(value) and value is not None:
            for entry in value:
                lines += ["", f"[[{_path(path)}]]", *_table(entry, path)]
    return lines


def _is_plain(value: Any) -> bool:
    """Whether it stands on one line; a mapping of plain values is written as a table of its own at the top levels."""
    if value is None or isinstance(value, Mapping):
        return False
    if isinstance(value, Sequence) and not isinstance(value, str):
        return not any(isinstance(item, Mapping) for item in value)
    return True


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    raise TypeError(f"TOML has no {type(value).__name__}")


def _number(value: float) -> str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return repr(value)


def _text(value: str) -> str:
    # TOML's escapes are JSON's; but DEL must be escaped, too, and a pair of surrogates must not be.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _path(path: tuple[str, ...]) -> str:
    return ".".join(_key(key) for key in path)
