"""A model folder on its way in: files under STATE/incoming/<id>/, bounded before they are written, removed on failure.

Paths come from a client: they are taken apart, checked part by part, and each folder is opened below the one before
without following links.
"""

import contextlib
import errno
import os
import shutil
import uuid
from pathlib import Path
from types import TracebackType

from appliance import limits
from appliance.errors import ApplianceError, InvalidArgument, ResourceExhausted
from appliance.osutil import in_use

# What a full disk would take down with it: journals, logs, the store's own metadata.
_KEEP_FREE_BYTES = 64 * 1024 * 1024


def safe_parts(path: str) -> list[str]:
    """The parts of a relative path; raises InvalidArgument for anything that could lead out of the folder."""
    parts = path.split("/")
    odd = any(ord(char) < 32 or char == "\\" for char in path)
    if odd or len(path.encode()) > 1024 or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise InvalidArgument(
            f"'{path[:120]!s}' is no path of a model file: it must be relative, with '/' between plain names",
            reason="PATH",
        )
    if len(parts) > limits.model_path_depth_max:
        raise InvalidArgument(
            f"'{path[:120]}' is {len(parts)} folders deep, at most {limits.model_path_depth_max} are allowed",
            reason="PATH",
        )
    return parts


class Upload:
    """Takes begin, then for each file its head and chunks. A context manager that leaves nothing behind."""

    def __init__(self, incoming: Path) -> None:
        """``incoming`` is made when it isn't there; raises OSError when it can't be."""
        self.name = uuid.uuid4().hex
        self.folder = incoming / self.name
        self._incoming = incoming
        self._total = 0
        self._promised = 0
        self._files = 0
        self._left = 0
        self._fd = -1
        self._mark = -1
        self._path = ""

    def __enter__(self) -> "Upload":
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_abandoned()
        self._mark = in_use.mark(self.folder)
        return self

    def _remove_abandoned(self) -> None:
        """What a front-end that died was receiving would take the room that this upload needs."""
        for folder in self._incoming.iterdir():
            with contextlib.suppress(OSError), in_use.abandoned(folder) as left:
                if left:
                    shutil.rmtree(folder, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_file()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._mark)

    def begin(self, total_bytes: int) -> None:
        """Raises InvalidArgument over the bound, ResourceExhausted (DISK_FULL) when it can't fit."""
        if total_bytes > limits.model_bytes_max:
            raise InvalidArgument(
                f"the folder has {total_bytes} bytes, at most {limits.model_bytes_max} are allowed", reason="MODEL_SIZE"
            )
        free = shutil.disk_usage(self.folder).free
        if total_bytes + _KEEP_FREE_BYTES > free:
            raise _disk_full(
                f"the folder has {total_bytes} bytes, the daemon's disk has {free} free, of which {_KEEP_FREE_BYTES} are "
                "kept back"
            )
        self._total = total_bytes

    def file(self, path: str, size_bytes: int) -> None:
        """The next file begins; raises InvalidArgument for a bad path, too many files, or more bytes than announced."""
        self._finish_file()
        parts = safe_parts(path)
        self._files += 1
        if self._files > limits.files_per_model_max:
            raise InvalidArgument(f"a model has at most {limits.files_per_model_max} files", reason="FILES")
        self._promised += size_bytes
        if self._promised > self._total:
            raise InvalidArgument(
                f"the files have more than the {self._total} bytes that were announced", reason="TOTAL_BYTES"
            )
        self._path, self._left = path, size_bytes
        try:
            self._fd = _create(self.folder, parts)
        except FileExistsError:
            raise InvalidArgument(f"'{path[:120]}' is sent twice", reason="PATH") from None
        except OSError as error:
            raise _explained(error, path) from error

    def chunk(self, data: bytes) -> None:
        """More of the current file; raises InvalidArgument when there is none or it is longer than announced."""
        if self._fd < 0:
            raise InvalidArgument("a chunk came before any file", reason="ORDER")
        if len(data) > self._left:
            raise InvalidArgument(f"'{self._path[:120]}' is longer than was announced", reason="FILE_SIZE")
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise _explained(error, self._path) from error
        self._left -= len(data)

    def end(self) -> None:
        """Everything has come; raises InvalidArgument when it hasn't."""
        self._finish_file()
        if not self._files:
            raise InvalidArgument("no file was sent", reason="FILES")
        if self._promised != self._total:
            raise InvalidArgument(f"{self._promised} bytes came, {self._total} were announced", reason="TOTAL_BYTES")

    def _finish_file(self) -> None:
        if self._fd >= 0 and self._left:
            raise InvalidArgument(f"'{self._path[:120]}' is {self._left} bytes short", reason="FILE_SIZE")
        self._close_file()

    def _close_file(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


def _create(folder: Path, parts: list[str]) -> int:
    """A new file below ``folder``; every step is opened relative to the last, and none may be a link."""
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for part in parts[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=at)
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        return os.open(parts[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=at)
    finally:
        os.close(at)


def _explained(error: OSError, path: str) -> ApplianceError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(f"the daemon's disk is full while it takes '{path[:120]}'")
    if error.errno in (errno.ENOTDIR, errno.EISDIR):
        return InvalidArgument(f"'{path[:120]}' is a file and a folder at once", reason="PATH")
    raise error


def _disk_full(what: str) -> ResourceExhausted:
    return ResourceExhausted(f"{what}: remove model versions that are not needed, then try again", reason="DISK_FULL")
