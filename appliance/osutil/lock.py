"""One daemon to a state folder: a lock file that holds the pid of whoever has it.

The kernel drops a flock when its process dies, so a lock can't be stale. The file itself stays: removing it would let
a second holder lock a new file of the same name while the first still holds the old one.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from appliance.errors import FailedPrecondition
from appliance.osutil import durable

LOCK_NAME = "lock"


class InstanceLock:
    """The right to use ``folder``, held until ``close``.

    Raises FailedPrecondition (reason STATE_LOCKED), naming the folder and the holder's pid, when another process has it.
    """

    def __init__(self, folder: Path) -> None:
        durable.mkdir(folder)
        self.path = folder / LOCK_NAME
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            self.close()
            who = f"the process with pid {holder}" if holder.isdigit() else "another process"
            raise FailedPrecondition(
                f"{folder} is in use by {who}: stop that one first, or give this one a state folder of its own",
                reason="STATE_LOCKED",
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Gives the lock back; twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "InstanceLock":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
