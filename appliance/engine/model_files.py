"""Reading the small files of a model folder: only those that model.toml lists, only regular ones, only up to a size."""

import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec


def listed_file(spec: ModelSpec, folder: Path, name: str, role: str) -> Path:
    """The path of the file that model.toml lists as ``name`` with ``role``.

    Raises InvalidArgument when it isn't listed so, leaves the folder, or is no regular file.
    """
    if not any(f.path == name and f.role == role for f in spec.files):
        raise InvalidArgument(
            f'{name!r} isn\'t listed with role "{role}" in model.toml; add it to [[files]]', reason="MODEL_FILE"
        )
    return regular_file(folder, name)


def regular_file(folder: Path, name: str) -> Path:
    """``folder``/``name`` when it is a regular file below ``folder`` with no link on the way.

    Links are refused because the store's folders have none: one would point at something that nobody verified.
    """
    pure = PurePosixPath(name)
    if not name or "\0" in name or "\\" in name or pure.is_absolute() or ".." in pure.parts:
        raise InvalidArgument(f"{name!r} leads out of the model's folder; use a path inside it", reason="MODEL_FILE")
    path = folder
    for part in pure.parts:
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except (OSError, ValueError):
            raise InvalidArgument(f"the model's file {name!r} is missing", reason="MODEL_FILE") from None
        if stat.S_ISLNK(mode):
            raise InvalidArgument(f"{name!r} is or passes through a link; use real files", reason="MODEL_FILE")
    if not stat.S_ISREG(mode):
        raise InvalidArgument(f"{name!r} is not a regular file", reason="MODEL_FILE")
    return path


def open_file(path: Path, name: str) -> BinaryIO:
    """The file opened for reading; InvalidArgument with the system's reason, but not its path, when that fails."""
    try:
        return path.open("rb")
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise InvalidArgument(f"the model's file {name!r} can't be opened: {why}", reason="MODEL_FILE") from None


def read_bounded(path: Path, name: str, bytes_max: int) -> bytes:
    """The file's bytes; InvalidArgument when it has more than ``bytes_max``."""
    with open_file(path, name) as file:
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise InvalidArgument(f"{name!r} is larger than the {bytes_max} bytes allowed", reason="MODEL_FILE")
    return data


def read_lines(path: Path, name: str, bytes_max: int) -> tuple[str, ...]:
    """The file's lines, which must be UTF-8, without their ends; an empty last line doesn't count."""
    try:
        text = read_bounded(path, name, bytes_max).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"{name!r} is not UTF-8 at byte {error.start}", reason="MODEL_FILE") from None
    return tuple(text.splitlines())
