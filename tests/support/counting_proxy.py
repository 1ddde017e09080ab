"""A TCP proxy on loopback that counts what goes through it: what a client of a real server sends and receives, headers included."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

_REQUEST = re.compile(rb"^(?:GET|HEAD|POST|PUT) \S+ HTTP/1\.1\r\n", re.MULTILINE)


class CountingProxy:
    """``received``: bytes from the server to clients so far; ``sent``: the other way. ``requests``: unless encrypted."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.received = self.sent = self.requests = 0
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for pair in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        for each in (self._listening, *self._open):
            each.close()

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                with self._lock:
                    self.received += len(piece) if counted else 0
                    self.sent += 0 if counted else len(piece)
                    # A client sends a request's head at once.
                    self.requests += 0 if counted else len(_REQUEST.findall(piece))
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def counting_proxy(host: str) -> Iterator[CountingProxy]:
    """``host``: HOST:PORT of the server."""
    name, _, port = host.rpartition(":")
    made = CountingProxy((name, int(port)))
    accepting = threading.Thread(target=made.accept, daemon=True)
    accepting.start()
    try:
        yield made
    finally:
        made.close()
        accepting.join()
