"""A front-end's connections to one engine: blocking unix sockets, each used by one call at a time and then kept.

A front-end thread does a blocking send and receive itself: the kernel does the hand-over, the GIL is free meanwhile,
and no second thread or future is needed (serve/README.md has the measurement).
"""

import contextlib
import socket
from collections import deque

from appliance import frames
from appliance.errors import Unavailable


class Connection:
    """One connection; ``inbox`` may hold bytes that were read ahead."""

    __slots__ = ("inbox", "sock")

    def __init__(self, path: str, buffer_bytes: int) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Large tensors need few turns of sender and receiver; the kernel caps this at net.core.wmem_max.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            self.sock.connect(path)
        except OSError:
            self.sock.close()
            raise
        self.inbox = frames.Inbox(self.sock)

    def is_alive(self) -> bool:
        """False when the engine has closed it (it died or was replaced) while nobody used it."""
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # end of file, or bytes that belong to no call

    def close(self) -> None:
        """Closing in the middle of a call cancels it."""
        self.sock.close()

    def abort(self) -> None:
        """Wakes the thread that is blocked on this connection; safe from any other thread."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class ConnectionPool:
    """Idle connections to one engine's socket; the most recently used goes out first, its caches being warm."""

    _BUFFER_BYTES = 4 * 1024 * 1024

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: deque[Connection] = deque()
        self._closed = False

    def take(self) -> Connection:
        """An idle connection that is still alive, or a new one; raises Unavailable when nobody listens."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if connection.is_alive():
                return connection
            connection.close()
        try:
            return Connection(self._path, self._BUFFER_BYTES)
        except OSError as error:
            raise Unavailable("the model's engine is not running", reason="ENGINE_DOWN") from error

    def give(self, connection: Connection) -> None:
        """Takes back a connection whose call has ended well."""
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Closes what is idle now, and what comes back later."""
        self._closed = True
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()
