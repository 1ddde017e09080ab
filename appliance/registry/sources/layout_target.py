"""A Target in a folder: writes an OCI image layout so that it is whole at any moment, a stick that is pulled out included.

Blobs come first and by rename, the index last. What a try that broke off has left half-written goes with the next one.
"""

import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.registry.sources import layout_files
from appliance.registry.sources.failures import Absent, Malformed, Unreachable
from appliance.registry.sources.layout_files import INDEX, MARKER, MARKER_BYTES, REF_NAME, IndexFile
from appliance.store import manifest
from appliance.store.manifest import Descriptor

_BLOB_MODE = 0o644


class LayoutTarget:
    """The layout in ``root``, made when something is first put there. One writer at a time."""

    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root
        self._blobs = root / "blobs" / "sha256"
        self._ready = False

    def has_blob(self, repository: str, digest: str) -> bool:  # noqa: ARG002 - a layout has one place for all blobs
        """Whether a file of that name is there and has that digest: media forget."""
        path = self._path(digest)
        try:
            fd, _ = layout_files.open_file(self._root, "blobs", "sha256", path.name)
        except (Absent, Malformed):
            return False
        found = manifest.new_sha256()
        try:
            with open(fd, "rb", buffering=0) as file:
                while piece := file.read(1024 * 1024):
                    found.update(piece)
        except OSError:
            return False
        return found.hexdigest() == path.name

    def put_blob(
        self,
        repository: str,  # noqa: ARG002 - as above
        digest: str,
        size: int,
        chunks: Callable[[], Iterable[bytes]],
    ) -> None:
        """As base.Target. Raises Malformed for bytes that are not those of ``digest``, Unreachable when writing fails."""
        path = self._path(digest)
        self._prepare()
        found, done = manifest.new_sha256(), 0
        temp = durable.temp_beside(path)
        try:
            with durable.open_new(temp, _BLOB_MODE) as fd:
                for piece in chunks():
                    fault_point("layout.blob.write")
                    durable.write_all(fd, piece)
                    found.update(piece)
                    done += len(piece)
                if (found.hexdigest(), done) != (path.name, size):
                    raise Malformed(f"{done} bytes came for {digest}, which has {size}, or they are others")
                fault_point("layout.blob.sync")
                os.fsync(fd)
            fault_point("layout.blob.rename")
            temp.replace(path)
            durable.sync_folder(path.parent)
        except BaseException as error:
            temp.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise self._failed(error) from None
            raise

    def put_manifest(self, repository: str, reference: str, media_type: str, data: bytes) -> None:
        """As base.Target."""
        digest = manifest.digest_of(data)
        self.put_blob(repository, digest, len(data), lambda: (data,))
        if reference == digest:
            return
        names = self._names()
        name = f"{repository}:{reference}"
        names[name] = Descriptor(media_type, digest, len(data), annotations={REF_NAME: name})
        index = IndexFile(2, tuple(names[key] for key in sorted(names)))
        try:
            durable.write(self._root / INDEX, manifest.canonical(index), point="layout.index")
        except OSError as error:
            raise self._failed(error) from None

    def _names(self) -> dict[str, Descriptor]:
        try:
            return layout_files.read_index(self._root)
        except Absent:
            return {}

    def _prepare(self) -> None:
        """The marker comes first: it says what this folder is, the index what is in it."""
        if self._ready:
            return
        for folder in (self._blobs.parent, self._blobs):
            if folder.is_symlink():
                raise Malformed(f"{folder} is a link, which no layout of ours holds: remove it")
        try:
            durable.mkdir(self._blobs)
            for folder in (self._root, self._blobs):
                for path in folder.iterdir():
                    if durable.is_temp(path.name):
                        path.unlink()
            if not (self._root / MARKER).exists():
                durable.write(self._root / MARKER, MARKER_BYTES, point="layout.marker")
            if not (self._root / INDEX).exists():
                durable.write(self._root / INDEX, manifest.canonical(IndexFile(2, ())), point="layout.index")
        except OSError as error:
            raise self._failed(error) from None
        self._ready = True

    def _path(self, digest: str) -> Path:
        if not manifest.is_digest(digest):
            raise Malformed(f"{digest[:100]!r} is no sha256 digest")
        return self._blobs / digest.partition(":")[2]

    def _failed(self, error: OSError) -> Unreachable:
        hint = ": FAT32 holds no file of 4 GiB, exFAT and ext4 do" if error.errno == errno.EFBIG else ""
        return Unreachable(f"{self.name} cannot be written: {error.strerror}{hint}", reason="LAYOUT_WRITE_FAILED")
