"""Calls that come to an instance that is down go on to one that is up, without the front-ends' help.

Between an engine's death and the routing table that says so, front-ends still connect to its socket, whose listener the
supervisor holds. While another instance is ready, the supervisor accepts such a connection, unread, and hands it over
to that one (SCM_RIGHTS, unix(7)), which serves it as one of its own. So no new call fails or waits for a restart.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable, Sequence
from typing import Protocol

from appliance.types import ModelState

_TAKEN_AT_ONCE = 64


class Receiver:
    """The supervisor's end of the way to one engine process. Never blocks."""

    def __init__(self) -> None:
        """``theirs`` is for the child; closed here as soon as that has it. Raises OSError."""
        self._ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self.theirs.setblocking(False)

    def give(self, connection: socket.socket) -> bool:
        """False when the engine can't take it: it is dead, or too many are on the way."""
        try:
            socket.send_fds(self._ours, [b"c"], [connection.fileno()])
        except OSError:
            return False
        return True

    def close(self) -> None:
        """After the child's end."""
        self._ours.close()
        self.theirs.close()


def taken_over(handover: socket.socket) -> list[socket.socket]:
    """In the engine: the connections that have been handed over; none any more when the supervisor is gone.

    ``handover`` doesn't block: CPython's recv_fds passes no flags on.
    """
    found: list[socket.socket] = []
    with contextlib.suppress(BlockingIOError):
        while len(found) < _TAKEN_AT_ONCE:
            data, descriptors, _, _ = socket.recv_fds(handover, 1, 1)
            if not data:
                break
            found += [socket.socket(fileno=fd) for fd in descriptors]
    return found


class Taker(Protocol):
    """An instance's socket (engine_socket.py)."""

    listener: socket.socket

    def take_over(self, connection: socket.socket) -> bool:
        """As Receiver.give."""
        ...


class Diversion:
    """Of one version: ``follow`` after each change of an instance's state, in the event loop."""

    def __init__(self) -> None:
        self._ready: list[Taker] = []
        self._watched: set[int] = set()

    def follow(self, instances: Iterable[tuple[ModelState, Taker]]) -> None:
        """Diverts what comes to those that are being started again, while there are others that are ready."""
        instances = list(instances)
        self._ready = [taker for state, taker in instances if state is ModelState.READY]
        down = [taker.listener for state, taker in instances if state is ModelState.RESTARTING and self._ready]
        loop, watched = asyncio.get_running_loop(), {listener.fileno() for listener in down}
        for fd in self._watched - watched:
            loop.remove_reader(fd)
        for listener in down:
            loop.add_reader(listener.fileno(), self._divert, listener)
        self._watched = watched

    def _divert(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = listener.accept()
                with connection:  # theirs is another descriptor of the same connection
                    self._ready = _handed_over(connection, self._ready)


def _handed_over(connection: socket.socket, ready: Sequence[Taker]) -> list[Taker]:
    """Gives it to the first that takes it, who is the last of those that are returned: they take turns."""
    for place, taker in enumerate(ready):
        if taker.take_over(connection):
            return [*ready[:place], *ready[place + 1 :], taker]
    return list(ready)
