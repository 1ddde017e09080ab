"""Durable changes to a folder: after a power cut at any moment there is the old state or the new one, never neither.

A file is written beside its target, synced, renamed over it, and the folder is synced (rename(2) is atomic, but only
fsync of the folder makes it last). What turns out to be corrupt is set aside for a person to look at, never deleted.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from appliance.osutil.faults import fault_point

TEMP_SUFFIX = ".tmp"


def write(path: Path, data: bytes | memoryview, *, mode: int = 0o644, point: str = "durable") -> None:
    """Makes ``path`` hold exactly ``data``. ``point`` is the prefix of the fault points passed. Raises OSError."""
    temp = temp_beside(path)
    try:
        fault_point(f"{point}.write")
        with open_new(temp, mode) as fd:
            write_all(fd, data)
            fault_point(f"{point}.fsync")
            os.fsync(fd)
        fault_point(f"{point}.rename")
        temp.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temp.unlink()
        raise
    fault_point(f"{point}.folder")
    sync_folder(path.parent)


def temp_beside(path: Path) -> Path:
    """A name in the same folder, so that a rename can be atomic; a left-over is known by its dot and its suffix."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMP_SUFFIX}")


def is_temp(name: str) -> bool:
    """Whether a file or folder of this name is something half-written that a crash left."""
    return name.startswith(".") and name.endswith(TEMP_SUFFIX)


@contextlib.contextmanager
def open_new(path: Path, mode: int) -> Iterator[int]:
    """A file descriptor of a new file, replacing a left-over of the same name; ``mode`` regardless of the umask."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _set_mode(fd, mode)
        yield fd
    finally:
        os.close(fd)


def _set_mode(fd: int, mode: int) -> None:
    """FAT and exFAT keep no modes and refuse most (Linux fs/fat/file.c): there, what a file has must do.

    Raises PermissionError where others could then read or write what was not for them.
    """
    try:
        os.fchmod(fd, mode)
    except PermissionError:
        if os.fstat(fd).st_mode & 0o066 & ~mode:
            raise


def write_all(fd: int, data: bytes | memoryview) -> None:
    """write(2) may take less than it was given, a full disk being one reason."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(folder: Path) -> None:
    """Makes renames, links and removals in ``folder`` last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def mkdir(path: Path, mode: int = 0o755) -> None:
    """Makes ``path`` and what is missing above it; each new name is synced in its parent."""
    if path.is_dir():
        return
    mkdir(path.parent, mode)
    path.mkdir(mode)
    sync_folder(path.parent)


def remove_tree(folder: Path) -> None:
    """Removes a folder with all that is in it, following no link; nothing there is fine. Raises OSError."""
    import shutil  # loads three compression libraries: half a megabyte for a process that may never need it

    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def rename(source: Path, target: Path) -> None:
    """Renames a file or folder; both parents are synced."""
    source.rename(target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def set_aside(path: Path) -> Path:
    """Renames what is corrupt to NAME.broken, or NAME.broken.1 and so on when that is taken; returns the new path."""
    target = path.with_name(path.name + ".broken")
    number = 0
    while os.path.lexists(target):
        number += 1
        target = path.with_name(f"{path.name}.broken.{number}")
    rename(path, target)
    return target
