"""A stored version as an engine wants it: a folder of hard links to blobs, under the files' own names.

    models/<name>/<version>.<first 12 digits of the manifest's digest>/

A view is built beside its place and renamed into it, so it is whole or not there. It holds nothing that the blobs
don't: it may be removed and is built again.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.store import manifest
from appliance.store.blobs import BLOB_MODE, Blobs
from appliance.store.manifest import Descriptor

_DIGEST_CHARS = 12


class Views:
    """The folder ``models`` of the state folder."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self.root = root
        self._blobs = blobs
        durable.mkdir(root)

    def path(self, name: str, version: str, digest: str) -> Path:
        """Where the view of a version is or would be."""
        return self.root / name / f"{version}.{digest.removeprefix('sha256:')[:_DIGEST_CHARS]}"

    def ensure(self, view: Path, layers: Iterable[Descriptor]) -> None:
        """Builds the view of these layers unless it is there and shows these very blobs. Raises OSError."""
        layers = tuple(layers)
        if self._is_whole(view, layers):
            return
        durable.mkdir(view.parent)
        temp = durable.temp_beside(view)
        durable.remove_tree(temp)
        try:
            fault_point("store.view.build")
            temp.mkdir()
            for layer in layers:
                self.link(layer, temp / manifest.file_path(layer))
            _sync_tree(temp)
            durable.remove_tree(view)
            fault_point("store.view.rename")
            durable.rename(temp, view)
        except BaseException:
            with contextlib.suppress(OSError):
                durable.remove_tree(temp)
            raise

    def _is_whole(self, view: Path, layers: tuple[Descriptor, ...]) -> bool:
        try:
            return all(self._shows(view / manifest.file_path(layer), layer) for layer in layers)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _shows(self, file: Path, layer: Descriptor) -> bool:
        there, blob = file.lstat(), self._blobs.path(layer.hex).lstat()
        if there.st_ino == blob.st_ino:
            return True
        # A copy (see link) is another inode of the same size, made after its blob: an older one is what the blob was
        # before it was healed.
        return there.st_nlink == 1 and there.st_size == blob.st_size and there.st_mtime_ns >= blob.st_mtime_ns

    def link(self, layer: Descriptor, target: Path) -> None:
        """Gives a blob the name ``target``, or copies it there on a file system without hard links. Raises OSError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        fault_point("store.view.link")
        blob = self._blobs.path(layer.hex)
        try:
            os.link(blob, target)
        except PermissionError:  # a file system without hard links says EPERM
            import shutil  # see durable.remove_tree

            shutil.copyfile(blob, target)
            target.chmod(BLOB_MODE)


def _sync_tree(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        durable.sync_folder(Path(folder))
