"""The disk may fill up at any write: one refusal that says how much is needed and free, and a ballast to get out of it.

Removing a model first writes a new index, which a completely full disk has no room for. The ballast is a small file
that is given up in that moment.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance import events
from appliance.errors import ApplianceError, FailedPrecondition, ResourceExhausted
from appliance.events.kind import Kind
from appliance.osutil.faults import fault_point

_log = logging.getLogger(__name__)

_BALLAST_NAME = "ballast"
_BALLAST_BYTES = 512 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(folder: Path) -> int:
    """What a process without privileges may still write."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def check_room(folder: Path, needed: int) -> None:
    """Raises ResourceExhausted (reason DISK_FULL) when ``needed`` bytes do not fit."""
    free = free_bytes(folder)
    if free < needed:
        raise _full(needed, free)


@contextlib.contextmanager
def full_is_refused(folder: Path, needed: int) -> Iterator[None]:
    """Turns "no space left" and "quota exceeded" into ResourceExhausted (reason DISK_FULL)."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise _full(needed, free_bytes(folder)) from error


def is_full(error: OSError) -> bool:
    """Whether ``error`` says that the disk or the quota is used up."""
    return error.errno in _FULL


def explained(error: BaseException) -> BaseException:
    """``error``; or where it is the disk's (full, read-only, failing), a typed one that says so in an operator's words."""
    if not isinstance(error, OSError):
        return error
    if is_full(error):
        return ResourceExhausted(
            "the disk that holds the models is full: remove models that are no longer used, or make room",
            reason="DISK_FULL",
        )
    if error.errno in (errno.EROFS, errno.EIO):
        return FailedPrecondition(
            f"the disk that holds the models takes nothing: {os.strerror(error.errno)}; see the kernel's log (`dmesg`)",
            reason="DISK_FAILS",
        )
    return error


def kind_of(error: ApplianceError, otherwise: Kind) -> dict[str, Any]:
    """For a log call's ``extra``: an error of ``explained`` is the disk's, any other one ``otherwise``."""
    kind = events.DISK_SHORT if error.reason in ("DISK_FULL", "DISK_FAILS") else otherwise
    return kind.of(error_reason=error.reason)


def _full(needed: int, free: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"the disk that holds the models is full: {needed} bytes are needed, {free} are free; "
        "remove models that are no longer used, or make room",
        reason="DISK_FULL",
    )


class Ballast:
    """A file that only takes room."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _BALLAST_NAME

    def take_on(self) -> None:
        """Makes the file unless it is there; a disk without room for it is no reason to fail."""
        if self._path.exists():
            return
        try:
            fault_point("store.ballast")
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, _BALLAST_BYTES)
            finally:
                os.close(fd)
        except OSError as error:
            self.drop()
            _log.warning(
                "no room for %d bytes of ballast on the disk that holds the models: %s",
                _BALLAST_BYTES,
                error,
                extra=events.DISK_SHORT.of(),
            )

    def drop(self) -> bool:
        """Gives the room back; False when there was none to give."""
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        return True
