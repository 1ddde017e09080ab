"""What the commands print: one JSON document with --json, else text and tables that fit 80 columns.

Nothing that comes from a model, a file or a daemon is ever read as markup or as the terminal's control codes.
"""

import json
import math
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

Justify = Literal["left", "right"]

# All of C0 and C1 but tab and line feed, and the marks that turn the direction of text: a model's answer could
# otherwise move the cursor, set the title or hide what it says.
_CONTROL = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160), *range(8234, 8239), *range(8294, 8298)))


def printable(text: str) -> str:
    """The text without control codes."""
    return text.translate(_CONTROL)


def line(text: str) -> str:
    """The text on one line, without control codes."""
    return " ".join(printable(text).split())


def clipped(text: str, chars_max: int) -> str:
    """The text on one line, its end left out where it is longer."""
    whole = line(text)
    return whole if len(whole) <= chars_max else f"{whole[: chars_max - 3]}..."


def shortest(value: float) -> float:
    """An FP32 as the shortest number that means it: 0.02 and not 0.019999999552965164. Nine digits always do."""
    for digits in (7, 8):
        short = float(f"{value:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", value):
            return short
    return float(f"{value:.9g}")


def emit(document: Any, as_json: bool, render: Callable[[], None]) -> None:
    """Prints the document as JSON, or what ``render`` prints."""
    if as_json:
        try:
            text = json.dumps(document, indent=2, allow_nan=False)
        except ValueError:
            text = json.dumps(_finite(document), indent=2, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        render()


def _finite(document: Any) -> Any:
    """JSON has no NaN and no infinity: protobuf's own JSON form writes them as strings, and so do we."""
    if isinstance(document, dict):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_finite(value) for value in document]
    if isinstance(document, float) and not math.isfinite(document):
        return "NaN" if math.isnan(document) else "Infinity" if document > 0 else "-Infinity"
    return document


def say(text: str) -> None:
    """A line for a person on standard output."""
    sys.stdout.write(printable(text) + "\n")


def note(text: str) -> None:
    """A line beside the result, on standard error."""
    sys.stderr.write(printable(text) + "\n")


def table(columns: Sequence[tuple[str, Justify]], rows: Iterable[Sequence[str]]) -> None:
    """A table; long cells are folded, never cut. A cell that begins with "!" is shown as bad, with "~" as a warning."""
    from rich.console import Console

    Console(highlight=False, emoji=False, soft_wrap=False).print(make_table(columns, rows))


def make_table(columns: Sequence[tuple[str, Justify]], rows: Iterable[Sequence[str]], gap: int = 2) -> Any:
    """The same as a rich renderable, with ``gap`` spaces between columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, gap - 1, 0, 0),
        show_edge=False,
        pad_edge=False,
    )
    for heading, justify in columns:
        made.add_column(Text(heading), justify=justify, overflow="fold")
    for row in rows:
        made.add_row(*(_cell(Text, value) for value in row))
    return made


def _cell(text_class: Any, value: str) -> Any:
    style = {"!": "bold red", "~": "yellow"}.get(value[:1], "")
    return text_class(printable(value[1:] if style else value), style=style)


def size(count: int) -> str:
    """Bytes with three digits and a binary unit."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB" if amount < 1000 else f"{amount:.0f} TiB"


def duration(milliseconds: int) -> str:
    """The two largest units of a time: ``3d 4h``, ``2m 5s``, ``12s``."""
    seconds = milliseconds // 1000
    parts = [
        (seconds // 86_400, "d"),
        (seconds // 3600 % 24, "h"),
        (seconds // 60 % 60, "m"),
        (seconds % 60, "s"),
    ]
    first = next((i for i, (amount, _) in enumerate(parts) if amount), 3)
    return " ".join(f"{amount}{unit}" for amount, unit in parts[first : first + 2])


def count(number: int) -> str:
    """A count in at most five characters: ``12345``, ``123k``, ``12.3M``."""
    if number < 100_000:
        return str(number)
    for divisor, unit in ((1_000, "k"), (1_000_000, "M"), (1_000_000_000, "G")):
        if number < divisor * 1000:
            scaled = number / divisor
            return f"{scaled:.1f}{unit}" if scaled < 99.95 else f"{scaled:.0f}{unit}"
    return f"{number / 1e12:.0f}T"


def moment(milliseconds: int) -> str:
    """A time since the Unix epoch as the operator's clock shows it; empty for never."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000)) if milliseconds else ""
