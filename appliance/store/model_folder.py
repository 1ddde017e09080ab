"""A model folder on its way in: model.toml and the files that it lists, each a regular file inside the folder.

Paths are opened one component at a time without following links, so that nothing outside of the folder can get in. A
file that lies in the folder but isn't listed is ignored.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec
from appliance.osutil import beneath
from appliance.store import model_toml

TOML_ROLE = "toml"


class FoundFile(NamedTuple):
    """A file of the folder; ``role`` as in model_spec.ModelFile, or TOML_ROLE for model.toml itself."""

    path: str
    role: str
    size: int


class ModelFolder(NamedTuple):
    """A folder that may be stored. ``files`` has model.toml first, then the others as listed."""

    root: Path
    spec: ModelSpec
    files: tuple[FoundFile, ...]

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size for file in self.files)


def read(root: Path) -> ModelFolder:
    """Parses model.toml and looks at every listed file.

    Raises InvalidArgument with the reason MODEL_TOML (the text is wrong) or MODEL_FILES (a file is not as it says).
    """
    with open_file(root, model_toml.FILE_NAME) as fd:
        size = os.fstat(fd).st_size
        # One byte over the bound is enough for the parser to refuse it.
        spec = model_toml.parse(beneath.read_up_to(fd, limits.model_toml_bytes_max + 1))
    files = [FoundFile(model_toml.FILE_NAME, TOML_ROLE, size)]
    for file in spec.files:
        with open_file(root, file.path) as fd:
            size = os.fstat(fd).st_size
        if file.role == "model" and not size:
            _refuse(file.path, "is empty")
        files.append(FoundFile(file.path, file.role, size))
    folder = ModelFolder(root, spec, tuple(files))
    if folder.size_bytes > limits.model_bytes_max:
        raise InvalidArgument(
            f"the model's files hold {folder.size_bytes} bytes, at most {limits.model_bytes_max} are allowed",
            reason="MODEL_FILES",
        )
    return folder


@contextlib.contextmanager
def open_file(root: Path, path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A file descriptor of the regular file ``path`` inside ``root``; no component may be a link.

    Raises InvalidArgument (reason MODEL_FILES), naming ``path`` only.
    """
    with contextlib.ExitStack() as stack:
        try:
            fd = stack.enter_context(beneath.opened(root, path, flags))
        except beneath.NotAFile:
            _refuse(path, "is not a regular file")
        except OSError as error:
            _explain(path, error)
        yield fd


def _explain(path: str, error: OSError) -> NoReturn:
    if error.errno == errno.ENOENT:
        _refuse(path, "is not in the model's folder")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        _refuse(path, "is a link, or lies behind one: put the file itself into the folder")
    if error.errno in (errno.EACCES, errno.EPERM):
        _refuse(path, "cannot be read: permission denied")
    if error.errno in (errno.EISDIR, errno.ENXIO):
        _refuse(path, "is not a regular file")
    raise error


def _refuse(path: str, problem: str) -> NoReturn:
    raise InvalidArgument(f"model folder: file {path} {problem}", reason="MODEL_FILES")
