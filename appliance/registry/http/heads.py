"""Heads and trailers of answers, bounded in size and in time: http.client bounds neither as a whole.

It reads "100 Continue" and trailers as long as they come, and a header byte by byte for as long as each byte is in time.
And bodies in larger pieces than TLS records: each that goes up through http.client and urllib3 costs 20 microseconds.
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

# Behind the first bytes of a piece of a body, more of them are waited for so long.
_GATHER_SECONDS = 0.1


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
        self._buffer = memoryview(b"")
        self._failure: Exception | None = None

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

    def read1(self, size: int) -> bytes:
        """A piece of the body: what comes together, of at most ``size`` bytes. What came before a failure is not lost."""
        self._bytes = 0
        if self._failure is not None:
            raise self._failure
        if len(self._buffer) < size:
            self._buffer = memoryview(bytearray(size))
        return bytes(self._buffer[: self._gather(self._buffer[:size])])

    def _gather(self, into: memoryview) -> int:
        count, until_s = 0, math.inf
        while count < len(into) and time.monotonic() < until_s:
            try:
                piece: int = self._file.readinto1(into[count:])  # type: ignore[attr-defined]
            except OSError as error:
                if not count:
                    raise
                self._failure = error
                break
            if not piece:
                break
            if not count:
                until_s = time.monotonic() + _GATHER_SECONDS
            count += piece
        return count

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
