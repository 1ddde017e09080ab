"""A person at a terminal: runs the `appliance` command on a pseudo-terminal of 80 columns, reads and types."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType

DEADLINE_SECONDS = 30.0

# Ctrl-C reaches a process as a signal only from its controlling terminal. Made here, since a preexec_fn would make
# subprocess fork, and gRPC's threads (the simulated daemon's) do not survive a fork. SIGINT is as in a shell in the
# foreground: tests that run in the background inherit that it is ignored.
_COMMAND = """
import fcntl, signal, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from appliance.cli.main import main
main()
"""


class Typed:
    """``with Typed("chat", "m") as person``: the command is killed if it still runs at the end."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *map(str, arguments)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb", **environment},
        )
        os.close(theirs)
        self._unread = ""
        self.seen = ""

    def __enter__(self) -> "Typed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)

    def press_until(self, key: str, words: str) -> None:
        """Presses a key as a person would: again when nothing happens. Python's prompt misses a signal that comes just
        before it waits for a line, until the next one.
        """
        for _ in range(5):
            self.type(key)
            try:
                self.expect(words, seconds=2.0)
            except AssertionError:
                continue
            return
        raise AssertionError(f"{words!r} did not come; unread: {self._unread!r}")

    def expect(self, words: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Reads until ``words`` were printed, after those expected before."""
        end = time.monotonic() + seconds
        while words not in self._unread:
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{words!r} did not come; unread: {self._unread!r}")
        self._unread = self._unread.split(words, 1)[1]

    def type(self, text: str) -> None:
        """Presses keys; \\x03 is Ctrl-C, \\x04 Ctrl-D."""
        os.write(self._ours, text.encode())

    def leaves(self) -> int:
        """Waits for the end of the command; returns its exit status."""
        end = time.monotonic() + DEADLINE_SECONDS
        while self._read(end - time.monotonic()):
            pass
        return self._process.wait(timeout=DEADLINE_SECONDS)

    def _read(self, seconds: float) -> bool:
        """What is there to read; False at the end of output or of the time."""
        if not select.select([self._ours], [], [], max(seconds, 0))[0]:
            return False
        try:
            text = os.read(self._ours, 65536).decode(errors="replace")
        except OSError:
            # EIO: the last process has closed its side.
            return False
        self._unread += text
        self.seen += text
        return bool(text)
