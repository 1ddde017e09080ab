"""A disk that loses power: what was not synced is gone. For processes that a test forks.

The model is the one that POSIX promises and no more: a file's bytes last once the file has been synced (fsync(2),
fdatasync(2)), its name lasts once the folder has been. Two disks are played, because real ones do either:

    LOSES   names and bytes that were not synced are gone
    KEEPS   all names are there, and the bytes behind them only if they were synced (a file of zeros otherwise)
"""

import os
import stat
from enum import Enum
from pathlib import Path
from typing import NoReturn

CUT = 77  # the exit status of a process whose machine lost its power


class Cut(Enum):
    """Which disk."""

    LOSES = "power cut, names lost"
    KEEPS = "power cut, names kept"


class Disk:
    """Watches what is synced below ``root``, from now on; what is there now lasts already."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        # Everything that has had a name is held open: its inode number stays its own, and its kind can be asked for.
        self._held: dict[int, int] = {}
        self._written: dict[int, Path] = {}
        for folder, _, files in os.walk(root):
            self._names[Path(folder).stat().st_ino] = self._seen(folder)
            for path in (Path(folder, name) for name in files):
                if stat.S_ISREG(path.lstat().st_mode):
                    self._bytes[path.stat().st_ino] = path.read_bytes()

    def watch(self) -> None:
        """Takes fsync and fdatasync over, in this process: they only note what is synced."""
        os.fsync = self._synced
        os.fdatasync = self._synced

    def cut(self, how: Cut, into: Path) -> NoReturn:
        """Writes what is left on the disk into the folder ``into``, and ends this process as it stands."""
        into.mkdir()
        self._write_folder(self._root.stat().st_ino, str(self._root), how, into)
        os._exit(CUT)

    def _synced(self, fd: int) -> None:
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = self._seen(f"/proc/self/fd/{fd}")
        else:
            self._bytes[found.st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()

    def _seen(self, folder: str) -> dict[str, int]:
        names = {}
        for entry in os.scandir(folder):
            names[entry.name] = inode = entry.inode()
            if inode not in self._held:
                self._held[inode] = os.open(entry.path, os.O_PATH | os.O_NOFOLLOW)
        return names

    def _write_folder(self, inode: int, path: str, how: Cut, into: Path) -> None:
        names = self._seen(path) if how is Cut.KEEPS else self._names.get(inode, {})
        for name, each in names.items():
            fd = self._held[each]
            mode = os.fstat(fd).st_mode
            if stat.S_ISLNK(mode):
                (into / name).symlink_to(os.readlink("", dir_fd=fd))
            elif stat.S_ISDIR(mode):
                (into / name).mkdir()
                self._write_folder(each, f"/proc/self/fd/{fd}", how, into / name)
                (into / name).chmod(stat.S_IMODE(mode))
            else:
                self._write_file(each, into / name)

    def _write_file(self, inode: int, into: Path) -> None:
        if inode in self._written:
            os.link(self._written[inode], into)
            return
        found = os.fstat(self._held[inode])
        into.write_bytes(self._bytes.get(inode, bytes(found.st_size)))
        into.chmod(stat.S_IMODE(found.st_mode))
        self._written[inode] = into
