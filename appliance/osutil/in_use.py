"""Marks a folder as in use by a process that lives: what a dead process left can be told from what is being written.

A shared flock, which the kernel drops when its process dies; whoever cleans up needs it exclusively.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


def mark(folder: Path) -> int:
    """Makes ``folder`` unless it is there, and marks it until the returned file descriptor is closed. Raises OSError."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_SH)
            if folder.exists() and os.path.samestat(os.fstat(fd), folder.stat()):
                return fd
            os.close(fd)  # a cleaner was faster


@contextlib.contextmanager
def marked(folder: Path) -> Iterator[None]:
    """As ``mark``, for a block."""
    fd = mark(folder)
    try:
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def abandoned(folder: Path) -> Iterator[bool]:
    """Whether nobody has ``folder`` marked; in the block that stays so. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
