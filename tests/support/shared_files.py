"""Files in /dev/shm as clients of shared memory make them, gone after the test."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.questions import RegionEntry
from appliance.worker.regions import FOLDER, SharedRegion, identity_of


class SharedFile:
    """``key`` is what shm_open(3) takes."""

    def __init__(self, content: bytes) -> None:
        self.key = f"/test-{uuid.uuid4().hex}"
        self.path = FOLDER + self.key
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o660)
        self.write(content)

    def write(self, content: bytes, offset: int = 0) -> None:
        os.pwrite(self.fd, content, offset)

    def read(self, size: int, offset: int = 0) -> bytes:
        return os.pread(self.fd, size, offset)

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def shrink(self, size: int = 0) -> None:
        os.ftruncate(self.fd, size)

    def entry(self, name: str = "r", offset: int = 0, nbytes: int = 0) -> RegionEntry:
        """What registering (all of) it makes."""
        return RegionEntry(name, self.key, offset, nbytes or self.size - offset, *identity_of(self.fd))

    def region(self, number: int = 1, name: str = "r", offset: int = 0, nbytes: int = 0) -> SharedRegion:
        return SharedRegion(number, self.entry(name, offset, nbytes))

    def unlink(self) -> None:
        if os.path.exists(self.path):
            os.unlink(self.path)

    def close(self) -> None:
        self.unlink()
        os.close(self.fd)


@contextmanager
def shared_file(content: bytes) -> Iterator[SharedFile]:
    file = SharedFile(content)
    try:
        yield file
    finally:
        file.close()
