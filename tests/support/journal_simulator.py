"""A simulated journal: listens where the native protocol is spoken, and keeps the entries that came."""

import array
import contextlib
import os
import re
import socket
import struct
import threading
from pathlib import Path

Entry = dict[str, str]


class JournalSimulator:
    """Takes entries at ``path`` from the start to ``close``; ``files``: how many came as a file in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self.files = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._arrived = threading.Condition()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            if data == b"end":
                return
            for _, _, fds in ancillary:
                (fd,) = array.array("i", fds[:4])
                # Whoever writes at the end of the file's offset must not matter: read from its beginning.
                data = os.pread(fd, 1 << 20, 0)
                os.close(fd)
                self.files += 1
            with self._arrived:
                self.entries.append(parse(data))
                self._arrived.notify_all()

    def close(self) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"end", str(self.path))
            self._thread.join(10)
        self._socket.close()

    def __enter__(self) -> "JournalSimulator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def matching(self, **fields: str) -> list[Entry]:
        """Entries that have these fields, in order."""
        with self._arrived:
            return [entry for entry in self.entries if fields.items() <= entry.items()]

    def wait_for(self, seconds: float = 60.0, **fields: str) -> Entry:
        """The first entry with these fields."""

        def found() -> Entry | None:
            return next((entry for entry in self.entries if fields.items() <= entry.items()), None)

        with self._arrived:
            assert self._arrived.wait_for(lambda: found() is not None, seconds), f"no {fields} among {self.entries}"
            entry = found()
            assert entry is not None
            return entry


def parse(data: bytes) -> Entry:
    """An entry of the native protocol, strictly: a field twice, or a name that the journal drops, is an error."""
    entry: Entry = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack_from("<Q", rest)
            value, end, data = rest[8 : 8 + size], rest[8 + size : 9 + size], rest[9 + size :]
            assert end == b"\n"
        else:
            data = rest
        key = name.decode()
        assert re.fullmatch(r"[A-Z0-9][A-Z0-9_]{0,63}", key), key
        assert key not in entry, key
        entry[key] = value.decode()
    return entry
