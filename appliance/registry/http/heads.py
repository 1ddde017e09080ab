"""Heads and trailers of answers, bounded in size and in time: http.client bounds neither as a whole.

It reads "100 Continue" and trailers as long as they come, and a header byte by byte for as long as each byte is in time.
"""

import errno
import http.client
import math
import socket
import ssl
import time
from typing import IO, Any

import urllib3

from appliance import limits


class BoundedResponse(http.client.HTTPResponse):
    """An answer whose head must be there within one more read time-out from its first byte on."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp: Any = _Lines(self.fp, sock.gettimeout())


class _Lines:
    """The file of a socket. All lines between two pieces of a body count together."""

    def __init__(self, file: Any, seconds_max: float | None) -> None:
        self._file: IO[bytes] = file
        self._seconds_max = math.inf if seconds_max is None else seconds_max
        self._began_s = 0.0
        self._bytes = 0

    def readline(self, limit: int = limits.http_head_bytes_max) -> bytes:
        """Raises HTTPException for too much, TimeoutError for too slow."""
        line = bytearray()
        while len(line) < limit and not line.endswith(b"\n"):
            # One read of the socket at most, so that the time is looked at between two of them.
            ahead = self._file.peek(1)  # type: ignore[attr-defined]
            if not ahead:
                break
            piece = self._file.read(min(ahead.find(b"\n") + 1 or len(ahead), limit - len(line)))
            self._count(len(piece))
            line += piece
        return bytes(line)

    def read(self, *args: Any) -> bytes:
        """A piece of the body."""
        self._bytes = 0
        return self._file.read(*args)

    def read1(self, *args: Any) -> bytes:
        """A piece of the body."""
        self._bytes = 0
        data: bytes = self._file.read1(*args)  # type: ignore[attr-defined]
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def _count(self, count: int) -> None:
        if not self._bytes:
            self._began_s = time.monotonic()
        self._bytes += count
        if self._bytes > limits.http_head_bytes_max:
            raise http.client.HTTPException(f"a head or trailer of more than {limits.http_head_bytes_max} bytes")
        if time.monotonic() - self._began_s > self._seconds_max:
            raise TimeoutError(f"a head or trailer that takes more than {self._seconds_max:g} s")


class _Plain(urllib3.connection.HTTPConnection):
    response_class = BoundedResponse


class _Tls(urllib3.connection.HTTPSConnection):
    response_class = BoundedResponse

    def send(self, data: Any) -> None:
        """A server that refuses our certificate says so, and goes away while we still send: its word is to be read.

        urllib3 reads the answer after a BrokenPipeError; with TLS that comes as another error.
        """
        try:
            super().send(data)
        except ssl.SSLEOFError as error:
            raise BrokenPipeError(errno.EPIPE, "the server went away") from error


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Tls


def bounded(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    """The same manager; its connections, also those to a proxy, read bounded heads."""
    manager.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
    return manager
