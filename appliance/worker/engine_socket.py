"""The listening socket of one instance: the supervisor's over all lives of its engine, and each life's by inheritance."""

import contextlib
import socket
from pathlib import Path

from appliance.worker.handover import Receiver

_BACKLOG = 1024


class EngineSocket:
    """Calls that come while no process accepts them wait in its backlog."""

    def __init__(self, path: Path) -> None:
        """Raises OSError when the socket cannot be made."""
        self.path = str(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.listener.bind(self.path)
            self.listener.listen(_BACKLOG)
            self.listener.setblocking(False)
        except OSError:
            self.listener.close()
            raise
        self._receiver: Receiver | None = None

    def new_life(self) -> Receiver:
        """Of the engine: its way for connections of other instances. Raises OSError."""
        self.end_life()
        self._receiver = Receiver()
        return self._receiver

    def end_life(self) -> None:
        """The process is gone."""
        if self._receiver is not None:
            self._receiver.close()
            self._receiver = None

    def take_over(self, connection: socket.socket) -> bool:
        """Hands a connection of another instance to this one's engine; False when it can't take it."""
        return self._receiver is not None and self._receiver.give(connection)

    def shed(self) -> None:
        """Closes the calls that wait in the backlog: their front-ends answer UNAVAILABLE."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.listener.accept()[0].close()

    def close(self) -> None:
        """Nobody can connect any more."""
        with contextlib.suppress(OSError):
            Path(self.path).unlink()
        self.shed()
        self.listener.close()
        self.end_life()
