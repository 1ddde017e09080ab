"""The machines of a fleet as their statuses tell: read from sticks that came back, and judged by what was known before.

A machine's key is believed when it is first enrolled, and from then on only that one. Pure but for reading the files.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance import limits
from appliance.errors import InvalidArgument, NotFound
from appliance.osutil import beneath
from appliance.registry.bundle import return_format
from appliance.registry.bundle.return_format import BadReturn, Report, Returned


class Verdict(str, Enum):
    """What is to be thought of a status."""

    KNOWN = "known"
    NEW = "new"
    ENROLLED = "enrolled"
    # These want a person's attention.
    OLDER = "older"
    OTHER_KEY = "other key"
    FORGED = "forged"
    BROKEN = "broken"


BAD = frozenset({Verdict.OLDER, Verdict.OTHER_KEY, Verdict.FORGED, Verdict.BROKEN})


class Machine(msgspec.Struct, frozen=True):
    """What is remembered of a machine: its public key and the highest counter seen (return_format.Report)."""

    key: str
    counter: int = 0


class Found(NamedTuple):
    """A file: what it says, or what is wrong with it."""

    path: str
    returned: Returned | None
    problem: str = ""
    forged: bool = False


class Row(msgspec.Struct, frozen=True):
    """A machine, or a file that is none's. ``report`` is None where nothing in it can be believed."""

    device: str
    verdict: Verdict
    path: str
    report: Report | None = None
    problem: str = ""


def read(paths: Sequence[Path]) -> list[Found]:
    """All statuses in files, in ``return`` folders, or on sticks that hold one. Raises NotFound, InvalidArgument."""
    found: list[Found] = []
    for path in paths:
        for folder, name in _files(path):
            if len(found) >= limits.fleet_boxes_max:
                raise InvalidArgument(f"more than {limits.fleet_boxes_max} statuses at once", reason="TOO_MANY")
            found.append(_read(folder, name))
    return found


def judge(found: Iterable[Found], known: Mapping[str, Machine], *, enrol: bool) -> list[Row]:
    """One row a machine, by name, then the files that are nobody's. The newest status of a machine counts."""
    machines: dict[str, list[tuple[Found, Returned]]] = {}
    rows: list[Row] = []
    for each in found:
        if each.returned is not None:
            machines.setdefault(each.returned.report.device, []).append((each, each.returned))
        else:
            verdict = Verdict.FORGED if each.forged else Verdict.BROKEN
            rows.append(Row("", verdict, each.path, None, each.problem))
    of_machines = [row for device in sorted(machines) for row in _machine(device, machines[device], known, enrol)]
    return of_machines + rows


def learned(rows: Iterable[Row], found: Iterable[Found], known: Mapping[str, Machine]) -> dict[str, Machine]:
    """What is known afterwards: counters that rose, and machines that were enrolled."""
    keys = {each.path: each.returned.key for each in found if each.returned is not None}
    now = dict(known)
    for row in rows:
        if row.report is not None and row.verdict in (Verdict.KNOWN, Verdict.ENROLLED):
            now[row.device] = Machine(keys[row.path], row.report.counter)
    return now


def _machine(
    device: str, statuses: list[tuple[Found, Returned]], known: Mapping[str, Machine], enrol: bool
) -> Iterator[Row]:
    before = known.get(device)
    others = {returned.key for _, returned in statuses} - ({before.key} if before else set())
    if before is None and len(others) > 1:
        for each, _ in statuses:
            yield Row(device, Verdict.OTHER_KEY, each.path, None, "two machines of this name, with different keys")
        return
    right = [(each, returned) for each, returned in statuses if before is None or returned.key == before.key]
    for each, returned in statuses:
        if before is not None and returned.key != before.key:
            yield Row(device, Verdict.OTHER_KEY, each.path, None, "not signed by the key that was enrolled")
    if not right:
        return
    each, newest = max(right, key=lambda pair: pair[1].report.counter)
    if before is None:
        yield Row(device, Verdict.ENROLLED if enrol else Verdict.NEW, each.path, newest.report)
    elif newest.report.counter < before.counter:
        problem = f"status {newest.report.counter}, and {before.counter} was seen already"
        yield Row(device, Verdict.OLDER, each.path, newest.report, problem)
    else:
        yield Row(device, Verdict.KNOWN, each.path, newest.report)


def _files(path: Path) -> Iterator[tuple[Path, str]]:
    """(folder, name) of what may be statuses."""
    if not path.exists():
        raise NotFound(f"{path} is not there", reason="NO_FILE")
    if not path.is_dir():
        yield path.parent, path.name
        return
    inner = path / return_format.FOLDER
    folder = inner if inner.is_dir() and not inner.is_symlink() else path
    names = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(return_format.SUFFIX) and not entry.name.startswith("."):
                    names.append(entry.name)
                if len(names) > limits.fleet_boxes_max:
                    raise InvalidArgument(f"{folder} holds too many files", reason="TOO_MANY")
    except OSError as error:
        raise NotFound(f"{folder}: {error.strerror}", reason="NO_FILE") from None
    for name in sorted(names):
        yield folder, name


def _read(folder: Path, name: str) -> Found:
    path = str(folder / name)
    try:
        with beneath.opened(folder, name) as fd:
            data = beneath.read_up_to(fd, limits.return_bytes_max + 1)
        return Found(path, return_format.read(data))
    except beneath.NotAFile:
        return Found(path, None, "it is no file")
    except BadReturn as error:
        return Found(path, None, error.message, forged=error.reason == "RETURN_FORGED")
    except OSError as error:
        return Found(path, None, f"it cannot be read: {error.strerror}")
