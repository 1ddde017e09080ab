"""Content-addressed blobs: ``blobs/sha256/<hex>`` of an OCI image layout, read-only, each there whole or not at all.

A blob gets its name by link(2) or rename(2) after its bytes are synced, so a blob that has a name is complete.
"""

import contextlib
import errno
import logging
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance import events
from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.store import manifest

_log = logging.getLogger(__name__)

# Called with the bytes just read, hashed or written, often enough for a heart-beat.
Tick = Callable[[int], None]

BLOB_MODE = 0o444
_READ_BYTES = 1024 * 1024
# One fsync of gigabytes can take longer than a supervisor's patience: 64 MiB are 2 s on an SD card of 32 MB/s.
_SYNC_BYTES = 64 * 1024 * 1024


def no_tick(_count: int) -> None:
    """For callers that don't show how far it is."""


def sha256_of(fd: int, tick: Tick = no_tick) -> str:
    """Streams a file from its start; hexadecimal."""
    digest = manifest.new_sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    position = 0
    while count := os.preadv(fd, [buffer], position):
        digest.update(buffer[:count])
        position += count
        tick(count)
    return digest.hexdigest()


class Blobs:
    """The blobs of one layout folder."""

    def __init__(self, layout: Path) -> None:
        self.folder = layout / "blobs" / "sha256"
        durable.mkdir(self.folder)

    def path(self, sha256: str) -> Path:
        """Where the blob is or would be."""
        return self.folder / sha256

    def size(self, sha256: str) -> int:
        """Bytes of the blob, -1 when it isn't there."""
        try:
            return self.path(sha256).stat().st_size
        except FileNotFoundError:
            return -1

    def read(self, descriptor: manifest.Descriptor) -> bytes | None:
        """A small blob, checked against its digest; None when it is missing or not what its name says."""
        if self.size(descriptor.hex) != descriptor.size:
            return None
        data = self.path(descriptor.hex).read_bytes()
        return data if manifest.digest_of(data) == descriptor.digest else None

    def holds(self, sha256: str, size: int, tick: Tick = no_tick) -> bool:
        """Whether the blob is there and its bytes, read again, still are what its name says."""
        if self.size(sha256) != size:
            return False
        fd = os.open(self.path(sha256), os.O_RDONLY | os.O_CLOEXEC)
        try:
            intact = sha256_of(fd, tick) == sha256
        finally:
            os.close(fd)
        if not intact:
            _log.warning(
                "the stored blob %s has decayed on the disk: it is replaced by the one that has just come",
                sha256,
                extra=events.STORE_REPAIRED.of(),
            )
        return intact

    def put(self, data: bytes) -> None:
        """Stores bytes (a manifest, a config) unless they are there."""
        sha256 = manifest.digest_of(data).removeprefix("sha256:")
        if not self.holds(sha256, len(data)):
            durable.write(self.path(sha256), data, mode=BLOB_MODE, point="store.blob")

    def take(self, source: Path, fd: int, sha256: str, tick: Tick = no_tick) -> bool:
        """Stores a file of ours by giving it a second name, without a copy; ``fd`` must be open for writing.

        False when the file system can't, or when somebody else has a name for the file and could change it later.
        """
        if os.fstat(fd).st_nlink != 1:
            return False
        fault_point("store.blob.sync")
        _sync_in_steps(fd, tick)
        os.fchmod(fd, BLOB_MODE)
        os.fsync(fd)
        temp = durable.temp_beside(self.path(sha256))
        try:
            with contextlib.suppress(FileNotFoundError):
                temp.unlink()
            fault_point("store.blob.link")
            os.link(source, temp, follow_symlinks=False)
            fault_point("store.blob.rename")
            temp.replace(self.path(sha256))
        except OSError as error:
            with contextlib.suppress(OSError):
                temp.unlink()
            if error.errno in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                return False
            raise
        self._sync()
        return True

    def copy(self, fd: int, sha256: str, tick: Tick = no_tick) -> bool:
        """Stores a copy of an open file; False, and nothing stored, when its bytes are not those of ``sha256``."""
        temp = durable.temp_beside(self.path(sha256))
        try:
            with durable.open_new(temp, BLOB_MODE) as target:
                fault_point("store.blob.copy")
                if _copy(fd, target, tick) != sha256:
                    temp.unlink()
                    return False
                fault_point("store.blob.fsync")
                os.fsync(target)
            fault_point("store.blob.rename")
            temp.replace(self.path(sha256))
        except BaseException:
            with contextlib.suppress(OSError):
                temp.unlink()
            raise
        self._sync()
        return True

    def names(self) -> Iterator[str]:
        """The sha256 of all blobs."""
        return (entry.name for entry in list(os.scandir(self.folder)) if manifest.is_hex(entry.name))

    def _sync(self) -> None:
        fault_point("store.blob.folder")
        durable.sync_folder(self.folder)


def _copy(source: int, target: int, tick: Tick) -> str:
    digest = manifest.new_sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    position = unsynced = 0
    while count := os.preadv(source, [buffer], position):
        digest.update(buffer[:count])
        durable.write_all(target, buffer[:count])
        position += count
        unsynced += count
        if unsynced >= _SYNC_BYTES:
            os.fdatasync(target)
            unsynced = 0
        tick(count)
    return digest.hexdigest()


def _sync_in_steps(fd: int, tick: Tick) -> None:
    """Writes a file's dirty pages back range by range: msync(MS_SYNC) is the fsync that takes a range."""
    size = os.fstat(fd).st_size
    for start in range(0, size, _SYNC_BYTES):
        length = min(_SYNC_BYTES, size - start)
        try:
            with mmap.mmap(fd, length, access=mmap.ACCESS_WRITE, offset=start) as pages:
                pages.flush()
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EACCES):  # a file system without shared mappings
                raise
            return
        tick(0)
