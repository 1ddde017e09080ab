"""Fault points: named places where a test makes the machine fail, as power cuts and full disks do in the field.

    APPLIANCE_FAULTS="store.index.rename=kill,store.blob.link=enospc@3"

Each entry is NAME=ACTION, or NAME=ACTION@N for the N-th time that the point is passed. NAME "*" is every point.
Actions: ``kill`` (SIGKILL to this process), ``enospc`` and ``eio`` (that OSError), ``print`` (the name to stderr).
Without the variable a fault point is one function call and one test of an empty dict.
"""

import errno
import os
import signal
import sys
from typing import NamedTuple

VARIABLE = "APPLIANCE_FAULTS"
ACTIONS = ("kill", "enospc", "eio", "print")


class Fault(NamedTuple):
    """What happens at a point, and from which pass on: ``nth`` 0 is every pass."""

    action: str
    nth: int


_armed: dict[str, Fault] = {}
_passed: dict[str, int] = {}


def fault_point(name: str) -> None:
    """A place that may fail here; raises OSError, or does not return at all, when it is armed."""
    if _armed:
        _pass(name)


def arm(text: str) -> None:
    """Replaces what is armed; an empty text disarms all. Raises ValueError for an entry that cannot be understood."""
    _armed.clear()
    _passed.clear()
    for entry in filter(None, text.split(",")):
        name, _, what = entry.partition("=")
        action, _, nth = what.partition("@")
        if not name or action not in ACTIONS or (nth and not nth.isdigit()):
            raise ValueError(
                f"{VARIABLE}: {entry!r} is not NAME=ACTION or NAME=ACTION@N; actions: {', '.join(ACTIONS)}"
            )
        _armed[name] = Fault(action, int(nth or 0))


def _pass(name: str) -> None:
    _passed[name] = _passed.get(name, 0) + 1
    fault = _armed.get(name) or _armed.get("*")
    if fault is None or (fault.nth and fault.nth != _passed[name]):
        return
    if fault.action == "print":
        sys.stderr.write(f"{name}\n")
    elif fault.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        number = errno.ENOSPC if fault.action == "enospc" else errno.EIO
        raise OSError(number, f"{os.strerror(number)} (fault point {name})")


arm(os.environ.get(VARIABLE, ""))
