"""A front-end's connections to one engine: blocking unix sockets, each used by one call at a time and then kept.

A front-end thread does a blocking send and receive itself: the kernel does the hand-over, the GIL is free meanwhile,
and no second thread or future is needed (serve/README.md has the measurement).
"""

import contextlib
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

from appliance import frames, limits
from appliance.calls import ShareCall
from appliance.errors import Unavailable
from appliance.worker.arena import Arena
from appliance.worker.regions import SharedRegion


class Connection:
    """One connection; ``inbox`` may hold bytes that were read ahead.

    ``arena`` and ``regions`` are the memory that the engine knows by this connection (placing.py).
    """

    __slots__ = ("arena", "idle_since_ns", "inbox", "regions", "sock")

    def __init__(self, path: str, buffer_bytes: int) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Large tensors need few turns of sender and receiver; the kernel caps this at net.core.wmem_max.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            self.sock.connect(path)
            # Descriptors may come on this one: what else reads it must not be slower for that (descriptors.py).
            frames.send(self.sock, ShareCall(region=-1))
        except OSError:
            self.sock.close()
            raise
        self.inbox = frames.Inbox(self.sock)
        self.arena: Arena | None = None
        self.regions: dict[int, SharedRegion] = {}
        self.idle_since_ns = 0

    def is_alive(self) -> bool:
        """False when the engine has closed it (it died or was replaced) while nobody used it."""
        if self.regions and self.is_outdated():
            return False
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False  # end of file, or bytes that belong to no call

    def is_outdated(self) -> bool:
        """Whether the engine holds a region by this connection that a client has taken back."""
        return any(region.unregistered for region in self.regions.values())

    def close(self) -> None:
        """Closing in the middle of a call cancels it."""
        self.sock.close()
        self.regions = {}
        if self.arena is not None:
            self.arena.close()
            self.arena = None

    def abort(self) -> None:
        """Wakes the thread that is blocked on this connection; safe from any other thread."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Expectation:
    """How large the answers of an engine are: the largest of late, so that arenas have room for them."""

    __slots__ = ("nbytes",)

    def __init__(self) -> None:
        self.nbytes = 0

    def seen(self, nbytes: int) -> None:
        """An answer had so many bytes. Threads may call this at once: it is a guess."""
        known = self.nbytes
        self.nbytes = nbytes if nbytes > known else known - (known - nbytes) // 16


class ConnectionPool:
    """Idle connections to one engine's socket; the most recently used goes out first, its caches being warm."""

    _BUFFER_BYTES = 4 * 1024 * 1024

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: deque[Connection] = deque()
        self._closed = False
        self.expectation = Expectation()
        with _every_lock:
            _every.add(self)

    @property
    def path(self) -> str:
        """The engine's socket."""
        return self._path

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
        if self._closed or (connection.regions and connection.is_outdated()):
            connection.close()
            return
        if connection.arena is not None:
            connection.idle_since_ns = time.monotonic_ns()
        self._idle.append(connection)

    def close_idle(self, unwanted: Callable[[Connection], bool]) -> None:
        """Closes the idle connections that are ``unwanted``."""
        for _ in range(len(self._idle)):
            try:
                connection = self._idle.popleft()
            except IndexError:  # another thread took it
                return
            if unwanted(connection):
                connection.close()
            else:
                self._idle.append(connection)

    def close(self) -> None:
        """Closes what is idle now, and what comes back later."""
        self._closed = True
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()


# Memory that idle connections hold is a matter of the whole process, whatever engine they lead to.
_every: "weakref.WeakSet[ConnectionPool]" = weakref.WeakSet()
_every_lock = threading.Lock()


def close_idle_connections(unwanted: Callable[[Connection], bool]) -> None:
    """Closes the idle connections of this process that are ``unwanted``, to whatever engine."""
    with _every_lock:
        pools = list(_every)
    for pool in pools:
        pool.close_idle(unwanted)


def give_back_idle_arenas(now_ns: int) -> None:
    """Closes connections whose arena has not been of use for ``limits.arena_idle_ms_max``."""
    oldest = now_ns - limits.arena_idle_ms_max * 1_000_000
    close_idle_connections(lambda connection: connection.arena is not None and connection.idle_since_ns < oldest)
