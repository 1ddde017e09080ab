"""Writing a small file below a folder that somebody else has filled: no link that lies in it leads anywhere else."""

import contextlib
import os
from pathlib import Path

from appliance.osutil import beneath, durable
from appliance.osutil.faults import fault_point

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def write(root: Path, folder: str, name: str, data: bytes, *, point: str = "beneath") -> Path:
    """Makes ``root``/``folder``/``name`` hold ``data``, old or new at any moment; ``folder`` is made where it is missing.

    ``root`` may be a link, ``folder`` may not, and what lies under ``name`` is replaced, whatever it is. ``point`` is the
    prefix of the fault points. Raises OSError: ELOOP or ENOTDIR for a link, EROFS, EACCES, ENOSPC, EISDIR.
    """
    temp = f".{name}{durable.TEMP_SUFFIX}"
    with contextlib.ExitStack() as fds:
        top = beneath.open_at(fds, str(root), _FOLDER & ~os.O_NOFOLLOW)
        fault_point(f"{point}.folder")
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755, dir_fd=top)
            os.fsync(top)
        at = beneath.open_at(fds, folder, _FOLDER, top)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp, dir_fd=at)
        try:
            fault_point(f"{point}.write")
            fd = beneath.open_at(fds, temp, _NEW, at)
            durable.write_all(fd, data)
            fault_point(f"{point}.fsync")
            os.fsync(fd)
            fault_point(f"{point}.rename")
            os.rename(temp, name, src_dir_fd=at, dst_dir_fd=at)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temp, dir_fd=at)
            raise
        fault_point(f"{point}.sync_folder")
        os.fsync(at)
    return root / folder / name
