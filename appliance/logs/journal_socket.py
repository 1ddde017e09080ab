"""How entries get to the journal: by libsystemd's Python module where it is installed, else by its native protocol.

The protocol is one datagram of fields; one that is too large is a sealed file in memory whose descriptor is sent instead
(systemd's "Native Journal Protocol", https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
"""

import array
import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Mapping

from appliance import limits

Send = Callable[[Mapping[str, str]], None]

_ADDRESS = "/run/systemd/journal/socket"
# For tests, which have no journal: where a simulator of it listens.
_OVERRIDE = "APPLIANCE_JOURNAL_SOCKET"
# Too large for the socket's buffer, or for what the kernel finds in one piece now (sd_journal_sendv does the same).
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)


def by_libsystemd() -> Send | None:
    """None where its module isn't there.

    It makes its socket at the first entry, which an engine's filter refuses, and waits for the journal as long as it takes.
    """
    if os.environ.get(_OVERRIDE):
        return None
    try:
        from systemd import journal
    except ImportError:
        return None

    def send(fields: Mapping[str, str]) -> None:
        journal.sendv(*(f"{name}={value}".encode(errors="backslashreplace") for name, value in fields.items()))

    return send


class NativeSocket:
    """The same in our own lines, over a socket that is made and connected now. Raises OSError where no journal listens.

    Call it with an entry's fields; it raises OSError when they can't be sent in limits.journal_wait_ms_max.
    """

    def __init__(self) -> None:
        self._sock = _connected()

    def __call__(self, fields: Mapping[str, str]) -> None:
        entry = encode(fields)
        try:
            self._send(entry)
        except ConnectionError:  # the journal's socket was made anew; an engine's filter lets it follow nowhere
            fresh = _connected()
            self._sock.close()
            self._sock = fresh
            self._send(entry)

    def _send(self, entry: bytes) -> None:
        try:
            self._sock.send(entry)
        except OSError as error:
            if error.errno not in _TOO_LARGE:
                raise
            send_file(self._sock, entry)

    def close(self) -> None:
        """Nothing can be sent after this."""
        self._sock.close()


def by_socket() -> NativeSocket | None:
    """None where no journal listens."""
    try:
        return NativeSocket()
    except OSError:
        return None


def _connected() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        sock.connect(os.environ.get(_OVERRIDE) or _ADDRESS)
    except OSError:
        sock.close()
        raise
    # Linux doubles it; a larger one means fewer files in memory. It is what sd_journal_sendv asks for.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * 1024 * 1024)
    sock.settimeout(limits.journal_wait_ms_max / 1000)
    return sock


def encode(fields: Mapping[str, str]) -> bytes:
    """One entry. A value with a line end in it is written with its length instead of up to the line's end."""
    pieces: list[bytes] = []
    for name, value in fields.items():
        data = value.encode(errors="backslashreplace")
        if b"\n" in data:
            pieces += (name.encode(), b"\n", struct.pack("<Q", len(data)), data, b"\n")
        else:
            pieces += (name.encode(), b"=", data, b"\n")
    return b"".join(pieces)


def send_file(sock: socket.socket, entry: bytes) -> None:
    """The journal maps the file, and trusts only one that nobody can change any more."""
    fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(entry)
        fcntl.fcntl(
            fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        )
        sock.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
    finally:
        os.close(fd)
