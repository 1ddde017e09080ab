"""The publisher's folder: publish.toml, keys/, metadata/ (the truth about what is released), layout/, pending.json.

Several metadata files change together: they are written to a batch folder, which one rename makes current; what a kill
left of a batch is carried out when the folder is opened again. One process at a time has the folder.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from appliance import limits
from appliance.errors import AlreadyExists, FailedPrecondition, NotFound
from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.osutil.lock import InstanceLock
from appliance.publish.release import repository, settings
from appliance.publish.release.keys import FOLDER_MODE
from appliance.publish.release.settings import Settings

_BATCH = "metadata.batch"
_PENDING = "pending.json"
_DROP_PENDING = "drop-pending"
_REPLACE = "replace"


class Workspace:
    """An opened folder, a context manager. Raises NotFound NO_PUBLISHER, FailedPrecondition, InvalidArgument."""

    def __init__(self, folder: Path) -> None:
        if not (folder / settings.FILE_NAME).is_file():
            raise NotFound(
                f"{folder} is no publisher's folder (no {settings.FILE_NAME}): run `appliance publish init`",
                reason="NO_PUBLISHER",
            )
        self.folder = folder
        self.keys = folder / "keys"
        self.layout = folder / "layout"
        self.settings: Settings = settings.parse((folder / settings.FILE_NAME).read_bytes())
        self._metadata = folder / "metadata"
        self._lock = InstanceLock(folder)
        try:
            self._carry_out()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def create(folder: Path, chosen: Settings) -> None:
        """Makes a folder; one that was begun is kept as it is. Raises AlreadyExists FOLDER_EXISTS for any other."""
        settings.check(chosen)
        if (folder / settings.FILE_NAME).exists():
            return
        begun = {"keys", "metadata", "layout"}
        if folder.is_dir() and any(
            not durable.is_temp(path.name) for path in folder.iterdir() if path.name not in begun
        ):
            raise AlreadyExists(f"{folder} is not empty: name a folder that isn't there", reason="FOLDER_EXISTS")
        for name in sorted(begun):
            durable.mkdir(folder / name, FOLDER_MODE if name == "keys" else 0o755)
        durable.write(folder / settings.FILE_NAME, settings.dump(chosen), point="publish.settings")

    def close(self) -> None:
        """Lets another process have the folder."""
        self._lock.close()

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def files(self) -> dict[str, bytes]:
        """All metadata files by name; what has another name is left alone."""
        return _read_files(self._metadata)

    def commit(self, files: Mapping[str, bytes], *, drop_pending: bool = False, replace: bool = False) -> None:
        """Makes the files current, all of them or none.

        ``drop_pending``: what waited for signatures is done. ``replace``: all metadata that were there are set aside.
        """
        work = durable.temp_beside(self.folder / _BATCH)
        durable.remove_tree(work)
        durable.mkdir(work)
        marks = [name for name, wanted in ((_DROP_PENDING, drop_pending), (_REPLACE, replace)) if wanted]
        for name, data in (*files.items(), *((mark, b"") for mark in marks)):
            durable.write(work / name, data, point="publish.batch")
        fault_point("publish.commit")
        durable.rename(work, self.folder / _BATCH)
        self._carry_out()

    def _carry_out(self) -> None:
        """What a batch says, as often as it takes."""
        batch = self.folder / _BATCH
        if not batch.is_dir():
            return
        if (batch / _REPLACE).exists():
            if self._metadata.exists():
                durable.set_aside(self._metadata)
            fault_point("publish.set_aside")
            (batch / _REPLACE).unlink()
            durable.sync_folder(batch)
        durable.mkdir(self._metadata)
        for name, data in _read_files(batch).items():
            durable.write(self._metadata / name, data, point="publish.metadata")
        if (batch / _DROP_PENDING).exists():
            self.drop_pending()
        self._forget()
        fault_point("publish.batch_done")
        done = durable.temp_beside(batch)
        durable.remove_tree(done)
        durable.rename(batch, done)
        durable.remove_tree(done)

    def _forget(self) -> None:
        """Removes old versions, roots apart: all files are read for each change."""
        by_role: dict[str, list[tuple[int, str]]] = {}
        for entry in os.scandir(self._metadata):
            found = repository.split_name(entry.name)
            if found and found[0]:
                by_role.setdefault(found[1], []).append((found[0], entry.path))
        for role, versions in by_role.items():
            kept = limits.publish_timestamps_kept if role == "timestamp" else limits.publish_versions_kept
            for _, path in sorted(versions)[:-kept] if role != "root" else ():
                Path(path).unlink()

    def pending(self) -> bytes | None:
        """The request that waits for signatures."""
        try:
            return (self.folder / _PENDING).read_bytes()
        except FileNotFoundError:
            return None

    def put_pending(self, request: bytes) -> None:
        """Keeps a request until its signatures are there."""
        durable.write(self.folder / _PENDING, request, point="publish.pending")

    def drop_pending(self) -> None:
        """Forgets the request; none there is fine."""
        (self.folder / _PENDING).unlink(missing_ok=True)
        durable.sync_folder(self.folder)


def _read_files(folder: Path) -> dict[str, bytes]:
    found = {}
    for entry in os.scandir(folder) if folder.is_dir() else ():
        if repository.split_name(entry.name) is None:
            continue
        if not entry.is_file(follow_symlinks=False) or entry.stat().st_size > limits.tuf_file_bytes_max:
            raise FailedPrecondition(
                f"{entry.name} in the publisher's metadata is no file, or too large", reason="METADATA_BROKEN"
            )
        found[entry.name] = Path(entry.path).read_bytes()
    return found
