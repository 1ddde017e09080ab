"""One blob, from a source into the store. What has come stays in a partial file, and the next try goes on behind it.

<folder>/<hex>.partial      the bytes so far
<folder>/<hex>.validator    what shows the source that they are still of the same blob
"""

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from appliance import limits
from appliance.errors import Cancelled
from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.pull.behind import Behind
from appliance.registry.sources.base import Blob, Source
from appliance.registry.sources.failures import Malformed, Unreachable
from appliance.store import manifest
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor

# Called with the bytes that have come since, negative where what had come is thrown away.
Came = Callable[[int], None]

# What a sync has to write, and what is written meanwhile: an SD card of 32 MB/s needs a second for it.
_SYNC_BYTES = 32 * 1024 * 1024
PARTIAL = ".partial"
VALIDATOR = ".validator"


class Download:
    """Into ``folder`` and from there into ``blobs``. ``cancelled()`` is asked between two reads."""

    def __init__(self, folder: Path, blobs: Blobs, bandwidth: Bandwidth, cancelled: Callable[[], bool]) -> None:
        durable.mkdir(folder)
        self._folder = folder
        self._blobs = blobs
        self._bandwidth = bandwidth
        self.is_cancelled = cancelled

    def run(self, source: Source, repository: str, blob: Descriptor, came: Came) -> None:
        """Returns when the blob is in the store. ``came`` counts up to its size.

        Raises Unreachable for what broke off (the next run goes on there), Malformed for bytes that are not the blob's
        (the next run begins anew), Cancelled, OSError of the disk, and what the source raises.
        """
        self.check_cancelled()
        path, mark = self._folder / f"{blob.hex}{PARTIAL}", self._folder / f"{blob.hex}{VALIDATOR}"
        fd = open_partial(path)
        writing = _Writing(self, fd, path, mark, blob, came)
        try:
            writing.fetch(source, repository)
            fault_point("pull.take")
            if not self._blobs.take(path, fd, blob.hex) and not self._blobs.copy(fd, blob.hex):
                raise Malformed(f"{path.name} changed while it was taken into the store: try again")
        except Malformed:
            _forget(path, mark)
            raise
        finally:
            if not writing.close():
                # Linux keeps pages whose write-back failed, and tells of it once: read again, they would seem to be there.
                _forget(path, mark)
            os.close(fd)
        _forget(path, mark)

    @property
    def piece_bytes(self) -> int:
        """How much to read at once."""
        return self._bandwidth.piece_bytes(limits.pull_read_bytes)

    def check_cancelled(self) -> None:
        """Raises Cancelled."""
        if self.is_cancelled():
            raise Cancelled("the download was stopped; it goes on where it was")

    def pace(self, count: int) -> None:
        """Waits until so many bytes fit into the bandwidth, or until it is cancelled."""
        self._bandwidth.take(count, self.is_cancelled)


class _Writing:
    """The bytes of one run."""

    def __init__(self, download: Download, fd: int, path: Path, mark: Path, blob: Descriptor, came: Came) -> None:
        self._download = download
        self._fd = fd
        self._path = path
        self._mark = mark
        self._blob = blob
        self._came = came
        self._digest = manifest.new_sha256()
        self._syncing = Behind("pull-sync", 1)
        self._done = 0
        # How many of them an earlier run wrote.
        self._earlier = 0

    def fetch(self, source: Source, repository: str) -> None:
        """The file is whole and right when this returns."""
        self._read_again()
        self._ask(source, repository)
        if self._earlier and not self._is_right():
            # What an earlier run wrote may have been lost in a power cut: that is no fault of this source.
            self._begin_anew()
            self._ask(source, repository)
        if not self._is_right():
            raise Malformed(f"what {source.name} sent as {self._blob.digest} has another digest")
        fault_point("pull.sync")
        self._syncing.do(lambda: os.fsync(self._fd))
        self._syncing.settle()

    def close(self) -> bool:
        """Before the file is closed; False where a disk has lost what was written."""
        self._syncing.close()
        return not self._syncing.failed

    def _is_right(self) -> bool:
        return self._digest.hexdigest() == self._blob.hex

    def _ask(self, source: Source, repository: str) -> None:
        """For what is missing, if anything is."""
        offset = self._done
        if offset and offset == self._blob.size:
            return
        with source.blob(repository, self._blob.digest, offset=offset, validator=self._validator()) as stream:
            if stream.offset not in (0, offset):
                raise Malformed(f"{source.name} sends {self._blob.digest} from {stream.offset}, not from {offset} on")
            if stream.offset != offset:
                self._begin_anew()
            self._keep_validator(stream.validator)
            self._stream(stream, source.name)

    def _stream(self, stream: Blob, name: str) -> None:
        unsynced = 0
        while piece := stream.read(self._download.piece_bytes):
            self._download.check_cancelled()
            if self._done + len(piece) > self._blob.size:
                raise Malformed(f"{name} sends more of {self._blob.digest} than its {self._blob.size} bytes")
            fault_point("pull.write")
            durable.write_all(self._fd, piece)
            self._take(piece)
            unsynced += len(piece)
            if unsynced >= _SYNC_BYTES:
                self._syncing.do(self._sync)
                unsynced = 0
            self._download.pace(len(piece))
        if self._done < self._blob.size:
            raise Unreachable(f"{name} sent {self._done} of the {self._blob.size} bytes of {self._blob.digest}")

    def _read_again(self) -> None:
        """What an earlier run has left: its digest is needed, and a disk may have lost or changed it meanwhile."""
        size = os.fstat(self._fd).st_size
        if size > self._blob.size:
            self._begin_anew()
            return
        while self._done < size and (piece := os.pread(self._fd, self._download.piece_bytes, self._done)):
            self._download.check_cancelled()
            self._take(piece)
        self._earlier = self._done
        os.lseek(self._fd, self._done, os.SEEK_SET)

    def _sync(self) -> None:
        fault_point("pull.behind")
        os.fdatasync(self._fd)

    def _take(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._done += len(piece)
        self._came(len(piece))

    def _begin_anew(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._came(-self._done)
        self._digest, self._done, self._earlier = manifest.new_sha256(), 0, 0

    def _validator(self) -> str:
        if not self._done:
            return ""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self._mark.read_bytes()[: limits.validator_bytes_max].decode()
        return ""

    def _keep_validator(self, validator: str) -> None:
        if validator and len(validator.encode()) <= limits.validator_bytes_max:
            durable.write(self._mark, validator.encode(), point="pull.validator")
        else:
            self._mark.unlink(missing_ok=True)


def open_partial(path: Path) -> int:
    """The partial file, as a kill may have left it. Raises OSError for a link."""
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and found.st_nlink != 1:
            path.unlink()  # it has become a blob, which engines may have open: never written to again
        elif stat.S_ISREG(found.st_mode):
            path.chmod(0o600)  # on its way to become one: Blobs.take makes it read-only first
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _forget(path: Path, mark: Path) -> None:
    for each in (path, mark):
        each.unlink(missing_ok=True)
