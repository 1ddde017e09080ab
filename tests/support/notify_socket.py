"""A service manager's end of $NOTIFY_SOCKET: takes the datagrams of a service and remembers when they came."""

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import NamedTuple


class Told(NamedTuple):
    """One datagram: its assignments, and when it came (CLOCK_MONOTONIC, seconds)."""

    lines: tuple[str, ...]
    at: float


class NotifySocket:
    """Listens at ``address``, a path or "@" and an abstract name, from the start to ``close``."""

    def __init__(self, address: str | Path) -> None:
        self.address = str(address)
        self.told: list[Told] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + self.address[1:] if self.address.startswith("@") else self.address)
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while datagram := self._socket.recv(65_536):
            with self._arrived:
                self.told.append(Told(tuple(datagram.decode().split("\n")), time.monotonic()))
                self._arrived.notify_all()

    def __enter__(self) -> "NotifySocket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())  # a datagram without content ends the thread
            self._thread.join(10)
        self._socket.close()

    def lines(self, since: int = 0) -> list[str]:
        """All assignments, in order."""
        with self._arrived:
            return [line for told in self.told[since:] for line in told.lines]

    def values(self, key: str) -> list[str]:
        """What was assigned to ``key``, in order."""
        return [line.partition("=")[2] for line in self.lines() if line.startswith(f"{key}=")]

    def wait_for(self, text: str, seconds: float = 60.0, since: int = 0) -> Told:
        """The first datagram from number ``since`` on with ``text`` in one of its lines."""

        def found() -> Told | None:
            return next((told for told in self.told[since:] if any(text in line for line in told.lines)), None)

        with self._arrived:
            assert self._arrived.wait_for(found, seconds), f"no {text!r} among {self.told[since:]}"
            told = found()
            assert told is not None
            return told

    def last(self, line: str) -> float:
        """When ``line`` was told last."""
        with self._arrived:
            return max(told.at for told in self.told if line in told.lines)
