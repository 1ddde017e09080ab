"""Which format the state folder is in, as ``format.json`` in it says, and what follows for this program.

    {"format": 2, "written_by": "0.1.0"}

The format is a number of the folder as a whole. It grows only when an older program would misread or lose what a newer
one has written; files that an older program passes over don't count. What has content and no such file is format 1:
programs before 0.1.0 wrote none.
"""

from collections.abc import Iterable
from enum import Enum, auto
from pathlib import Path

import msgspec

from appliance import limits
from appliance.errors import FailedPrecondition
from appliance.osutil import bounded, durable

FORMAT = 2
FORMAT_FILE = "format.json"
# What shows that a folder has been used: an empty one, or one with only a lock in it, is new.
_CONTENT = ("store", "models", "state", "trust")


class Stamp(msgspec.Struct, frozen=True):
    """The file. ``written_by``: the version of the program that wrote to the folder last; "" when that is not known."""

    format: int
    written_by: str = ""


class Course(Enum):
    """What a program does with a folder before it uses it."""

    USE = auto()
    UPGRADE = auto()
    REFUSE = auto()


def course(stamp: Stamp, known: int = FORMAT) -> Course:
    """What to do with a folder whose stamp is this, by a program that knows formats up to ``known``."""
    if stamp.format > known:
        return Course.REFUSE
    return Course.UPGRADE if stamp.format < known else Course.USE


def read(state: Path) -> Stamp | None:
    """The folder's stamp; None when it is new. Raises FailedPrecondition for one that is damaged, OSError."""
    path = state / FORMAT_FILE
    try:
        data = bounded.read(path, limits.state_stamp_bytes_max)
        stamp = msgspec.json.decode(data, type=Stamp)
    except FileNotFoundError:
        return Stamp(1) if any((state / name).exists() for name in _CONTENT) else None
    except (msgspec.DecodeError, bounded.TooLarge):
        raise _damaged(path) from None
    if not 1 <= stamp.format <= limits.state_format_max:
        raise _damaged(path)
    return stamp


def write(state: Path, stamp: Stamp) -> None:
    """Makes it the folder's, durably. Raises OSError."""
    durable.write(state / FORMAT_FILE, msgspec.json.encode(stamp) + b"\n", point="state.format")


def refusal(state: Path, stamp: Stamp, version: str, backups: Iterable[str], known: int = FORMAT) -> FailedPrecondition:
    """The error for a folder that a newer program has written, with every way on."""
    by = f" by {stamp.written_by}" if stamp.written_by else ""
    ways = [f"install {stamp.written_by or 'the newer version'} again, or a later one"]
    names = tuple(backups)
    if names:
        ways.append(f"or go back to what was there before: `appliance state restore {names[-1]}`")
    return FailedPrecondition(
        f"the state in {state} was written{by} in format {stamp.format}; this is {version}, which knows formats up to"
        f" {known}: {', '.join(ways)}",
        reason="STATE_TOO_NEW",
    )


def _damaged(path: Path) -> FailedPrecondition:
    return FailedPrecondition(
        f"{path} does not say which format the state has: if this program wrote to it last, remove the file,"
        " else install again the version that did",
        reason="STATE_FORMAT",
    )
