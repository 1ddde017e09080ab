"""Opening a file below a folder without leaving it: whoever fills the folder may have put links anywhere into it."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


class NotAFile(Exception):
    """Something else has the name: a folder, a pipe, a device."""


@contextlib.contextmanager
def opened(root: Path, path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of the regular file ``path`` ("a/b") below ``root``; no component of it may be a link, ``root`` may.

    Raises NotAFile, and OSError as open(2) does: ELOOP or ENOTDIR for links, ENOENT.
    """
    *folders, name = path.split("/")
    with contextlib.ExitStack() as opened_so_far:
        at = open_at(opened_so_far, str(root), os.O_RDONLY | os.O_DIRECTORY)
        for folder in folders:
            at = open_at(opened_so_far, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, at)
        # Opening a named pipe would wait for its other end without O_NONBLOCK; on a regular file it does nothing.
        fd = open_at(opened_so_far, name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, at)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotAFile(path)
        yield fd


def open_at(stack: contextlib.ExitStack, path: str, flags: int, at: int | None = None) -> int:
    """open(2) in the folder ``at``, closed with ``stack``. Raises OSError."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o644, dir_fd=at)
    stack.callback(os.close, fd)
    return fd


def read_up_to(fd: int, count: int) -> bytes:
    """What is left of a file, at most ``count`` bytes. Raises OSError."""
    data = b""
    while len(data) < count and (piece := os.read(fd, count - len(data))):
        data += piece
    return data
