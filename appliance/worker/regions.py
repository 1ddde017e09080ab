"""Memory of a client (POSIX shared memory, shm_overview(7)) as a front-end holds it: an open descriptor and its bounds.

The files are the clients': they may shrink or lose their name at any time. So nothing here or in an engine maps them;
bytes are copied by system calls, which end short where an access through a mapping would end the process (SIGBUS).
"""

import errno
import os
import stat
from typing import NamedTuple

from appliance import limits
from appliance.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from appliance.questions import RegionEntry

FOLDER = "/dev/shm"  # noqa: S108  # where shm_open(3) has its files on Linux
# A name may stand for a pipe or a device: opening it must not wait, and the check below refuses it.
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Identity(NamedTuple):
    """Which file it is, whatever name it has."""

    device: int
    inode: int


class SharedRegion:
    """A registered region, open. ``number`` is its own in this front-end, and the engines' name for it.

    ``offset`` and ``nbytes`` are the registered part of the file; all other offsets here are within that part.
    """

    __slots__ = ("fd", "identity", "key", "name", "nbytes", "number", "offset", "unregistered")

    def __init__(self, number: int, entry: RegionEntry) -> None:
        """Raises what ``open_region`` raises; FailedPrecondition when the file is not the one that was registered."""
        self.fd = -1
        self.number = number
        self.name = entry.name
        self.key = entry.key
        self.offset = entry.offset
        self.nbytes = entry.nbytes
        self.identity = Identity(entry.device, entry.inode)
        self.unregistered = False
        fd = open_region(entry.key)
        if identity_of(fd) != self.identity:
            os.close(fd)
            raise FailedPrecondition(
                f"the file of shared memory region '{entry.name}' was replaced after it was registered: unregister the "
                "region and register it again",
                reason="SHARED_MEMORY_GONE",
            )
        self.fd = fd

    def __del__(self) -> None:
        # Calls and connections that still use the region hold it: the descriptor goes with the last of them.
        if self.fd >= 0:
            os.close(self.fd)

    def file_offset(self, what: str, offset: int, nbytes: int) -> int:
        """Where in the file ``nbytes`` at ``offset`` begin, checked against the registration and the file as it is now.

        Raises InvalidArgument for a place outside the region, FailedPrecondition when the file has shrunk; ``what``
        names the tensor.
        """
        if offset + nbytes > self.nbytes:
            raise InvalidArgument(
                f"{what} is to have {nbytes} bytes at offset {offset} of shared memory region '{self.name}', which has "
                f"{self.nbytes} bytes",
                reason="SHARED_MEMORY_BOUNDS",
            )
        at = self.offset + offset
        if os.fstat(self.fd).st_size < at + nbytes:
            raise shrunk(what, self.name)
        return at


def shrunk(what: str, region: str) -> FailedPrecondition:
    """Why the tensor ``what`` can't be read or written: the file of ``region`` ends before it."""
    return FailedPrecondition(
        f"{what} lies behind the end of the file of shared memory region '{region}', which has shrunk since it was "
        "registered",
        reason="SHARED_MEMORY_SHRUNK",
    )


def open_region(key: str) -> int:
    """A descriptor of the file that shm_open(3) would open for ``key``.

    Raises InvalidArgument for a key that is none, NotFound, PermissionDenied: only files of the daemon's own groups.
    """
    try:
        fd = os.open(f"{FOLDER}/{_file_name(key)}", _FLAGS)
    except FileNotFoundError:
        raise NotFound(f"there is no shared memory with the key {_quote(key)}", reason="SHARED_MEMORY_KEY") from None
    except PermissionError:
        raise _not_ours(key) from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENOTDIR):
            raise _no_file(key) from None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _no_file(key)
        # A daemon that root started may open everything: what it may use is what belongs to its groups all the same.
        if status.st_gid not in {os.getegid(), *os.getgroups()}:
            raise _not_ours(key)
    except BaseException:
        os.close(fd)
        raise
    return fd


def identity_of(fd: int) -> Identity:
    """Of an open file."""
    status = os.fstat(fd)
    return Identity(status.st_dev, status.st_ino)


def _file_name(key: str) -> str:
    name = key.removeprefix("/")
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise InvalidArgument(
            f"{_quote(key)} is no key of shared memory: it is one name behind a slash, such as '/images'",
            reason="SHARED_MEMORY_KEY",
        )
    if len(name.encode()) > limits.shared_region_key_bytes_max:
        raise InvalidArgument(
            f"a key of shared memory has at most {limits.shared_region_key_bytes_max} bytes behind the slash, this one "
            f"has {len(name.encode())}",
            reason="SHARED_MEMORY_KEY",
        )
    return name


def _quote(text: str) -> str:
    return f"'{text[: limits.quoted_chars_max]}'"


def _no_file(key: str) -> InvalidArgument:
    return InvalidArgument(f"the key {_quote(key)} is not one of shared memory", reason="SHARED_MEMORY_KEY")


def _not_ours(key: str) -> PermissionDenied:
    return PermissionDenied(
        f"the daemon may not use the shared memory {_quote(key)}: let its file belong to one of its groups, readable and "
        "writable by it (chgrp, chmod g+rw)",
        reason="SHARED_MEMORY_GROUP",
    )
