"""Setting aside what is corrupt without taking it away first: whatever a kill leaves, the name still stands for a file."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from appliance.osutil import durable
from appliance.osutil.faults import fault_point

_NO_LINKS = (errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.EMLINK)


def keep_aside(path: Path) -> Path | None:
    """Gives a corrupt file a second name, NAME.broken, that its replacement will not touch; None when nothing is there.

    What can have no second name (a folder, a link, a file system without hard links) is renamed. Raises OSError.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    fault_point("store.aside")
    if not stat.S_ISREG(status.st_mode):
        return durable.set_aside(path)
    target, number = path.with_name(path.name + ".broken"), 0
    while os.path.lexists(target):
        if target.lstat().st_ino == status.st_ino:
            return target
        number += 1
        target = path.with_name(f"{path.name}.broken.{number}")
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        durable.rename(path, target)
    else:
        durable.sync_folder(path.parent)
    return target


def take_away(path: Path) -> None:
    """Sets a corrupt file aside and leaves nothing under its own name. Raises OSError."""
    keep_aside(path)
    fault_point("store.aside.unlink")
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        durable.sync_folder(path.parent)
