"""What a service tells its service manager: datagrams to the socket that $NOTIFY_SOCKET names (sd_notify(3)).

libsystemd sends them where its Python module is installed; the same protocol in our own lines does elsewhere. Without
the variable nobody listens, and nothing is sent.
"""

import logging
import os
import socket
from collections.abc import Callable, MutableMapping, Sequence

from appliance import events

_log = logging.getLogger(__name__)

_SOCKET = "NOTIFY_SOCKET"
# Children must not have them: they would speak for the service, or wait for a watchdog that isn't theirs.
VARIABLES = (_SOCKET, "WATCHDOG_USEC", "WATCHDOG_PID")

Send = Callable[[bytes], None]


class Notifier:
    """``watchdog_usec``: how often WATCHDOG=1 must come at the least; 0: the service manager doesn't wait for it."""

    def __init__(self, send: Send | None, watchdog_usec: int = 0) -> None:
        self._send = send
        self._failed = False
        self.watchdog_usec = watchdog_usec if send is not None else 0

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> "Notifier":
        """By what the service manager has set. The variables are taken away: no other code speaks for the service."""
        address, usec, pid = (environ.pop(name, "") for name in VARIABLES)
        return cls(_sender(address), _watchdog_usec(usec, pid))

    @property
    def listened_to(self) -> bool:
        """Whether there is a service manager that wants to know."""
        return self._send is not None

    def tell(self, lines: Sequence[str]) -> None:
        """Sends assignments such as "READY=1" in one datagram. What can't be sent is said once in the log, and lost."""
        if self._send is None or not lines:
            return
        try:
            self._send("\n".join(lines).encode())
        except OSError as error:
            if not self._failed:
                _log.error(
                    "the service manager can't be told how the service stands: %s",
                    error.strerror or error,
                    extra=events.SERVICE_UNTOLD.of(),
                )
            self._failed = True
        else:
            self._failed = False


def _sender(address: str) -> Send | None:
    """How datagrams go to ``address``: a path, or "@" and a name in the abstract namespace (unix(7))."""
    if not address:
        return None
    if address[0] not in "/@" or len(address) < 2:
        _log.warning(
            "%s=%s is no address that this program can send to", _SOCKET, address[:80], extra=events.SERVICE_UNTOLD.of()
        )
        return None
    return _by_libsystemd(address) or _by_socket(address)


def _by_libsystemd(address: str) -> Send | None:
    try:
        from systemd import daemon
    except ImportError:
        return None

    def send(datagram: bytes) -> None:
        # The library reads the variable at each call. Only this thread starts children, and none between these lines.
        os.environ[_SOCKET] = address
        try:
            daemon.notify(datagram.decode())
        finally:
            del os.environ[_SOCKET]

    return send


def _by_socket(address: str) -> Send:
    name = "\0" + address[1:] if address[0] == "@" else address

    def send(datagram: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            # A full queue must not stop the supervisor: what is told is told again.
            sock.setblocking(False)
            sock.sendto(datagram, name)

    return send


def _watchdog_usec(usec: str, pid: str) -> int:
    """sd_watchdog_enabled(3): microseconds, for the process that WATCHDOG_PID names, or for whoever reads it."""
    if not usec:
        return 0
    if not (usec.isascii() and usec.isdigit() and int(usec) > 0):
        _log.warning(
            "WATCHDOG_USEC=%s is not a number of microseconds: no watchdog is fed",
            usec[:80],
            extra=events.SERVICE_UNTOLD.of(),
        )
        return 0
    return int(usec) if pid in ("", str(os.getpid())) else 0
