"""Brings a state folder to the format of this program, step by step, before anything else touches it.

A step turns format N into N + 1. It may be cut off at any moment, and then runs again from its beginning: so it must be
written such that doing it twice is the same as doing it once. The folder's stamp is written after each step; what counts
was copied before the first (backup.py). A step that fails leaves a refusal that says how to go back.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from appliance import __version__
from appliance.errors import FailedPrecondition
from appliance.state import backup
from appliance.state import stamp as stamps
from appliance.state.stamp import Course, Stamp

_log = logging.getLogger(__name__)

Step = Callable[[Path], None]


def _carries_its_format(_: Path) -> None:
    """1 to 2: the folder says which format it has. All else is as it was; programs of format 1 can still use it."""


# By the format that a step begins with.
STEPS: Mapping[int, Step] = {1: _carries_its_format}


def prepare(state: Path, steps: Mapping[int, Step] = STEPS, version: str = __version__) -> None:
    """Makes ``state`` ready for this program; the lock on it is held. ``steps`` lead from 1 to the newest format.

    Raises FailedPrecondition for a state that is too new (STATE_TOO_NEW), that does not say its format (STATE_FORMAT),
    or that could not be upgraded (STATE_UPGRADE); all of them say what to do.
    """
    known = max(steps) + 1
    stamp = stamps.read(state) or Stamp(known)
    match stamps.course(stamp, known):
        case Course.REFUSE:
            raise stamps.refusal(state, stamp, version, backup.names(state), known)
        case Course.UPGRADE:
            _upgrade(state, stamp, steps, version)
        case Course.USE if stamp.written_by != version:
            if stamp.written_by:
                _log.info("the state in %s was last written by %s, now by %s", state, stamp.written_by, version)
            _write(state, Stamp(known, version))


def _upgrade(state: Path, stamp: Stamp, steps: Mapping[int, Step], version: str) -> None:
    first, last = stamp.format, max(steps) + 1
    made = backup.names(state)
    try:
        # An older format by this very version: an upgrade that was cut off, which had its copy made.
        name = made[-1] if made and stamp.written_by == version else backup.make(state, stamp)
    except OSError as error:
        raise FailedPrecondition(
            f"the state in {state} must be upgraded from format {first} to {last}, but could not be copied before:"
            f" {error.strerror or error}; nothing has changed. Make room, or install the version before again",
            reason="STATE_UPGRADE",
        ) from error
    for number in range(first, last):
        try:
            steps[number](state)
            stamps.write(state, Stamp(number + 1, version))
        except OSError as error:
            raise FailedPrecondition(
                f"the state in {state} could not be upgraded from format {number} to {number + 1}:"
                f" {error.strerror or error}; mend that and start again, or go back: install the version before, and"
                f" `appliance state restore {name}`",
                reason="STATE_UPGRADE",
            ) from error
    _log.info("the state in %s was upgraded from format %d to %d; backup: %s", state, first, last, name)


def _write(state: Path, stamp: Stamp) -> None:
    try:
        stamps.write(state, stamp)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot write to {state}: {error.strerror or error}; make it writable for this user",
            reason="FOLDER_UNUSABLE",
        ) from error
