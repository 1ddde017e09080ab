"""Descriptors on the way between processes: SCM_RIGHTS messages of unix sockets (unix(7)), one descriptor to a frame.

A descriptor goes out with the first byte of its frame, and the kernel ends a read behind bytes that carried one: so the
frames of a read and the descriptors that came with it are in the same order.
"""

import os
import socket
import struct
from collections import deque

import msgspec

from appliance import frames

_ONE = struct.Struct("i")
# Plain numbers: the module's are enumerations, whose "&" takes 1 us.
_CLOEXEC, _TRUNCATED = int(socket.MSG_CMSG_CLOEXEC), int(socket.MSG_CTRUNC)
# Room for one descriptor: the kernel closes any more of a message, and says so.
_ANCILLARY_BYTES = socket.CMSG_SPACE(_ONE.size)


def send_with(sock: socket.socket, head: msgspec.Struct, fd: int) -> None:
    """Sends a frame without a body and ``fd`` with it, on a blocking socket."""
    (piece,) = frames.encode(head)
    sent = sock.sendmsg([piece], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _ONE.pack(fd))])
    if sent < len(piece):
        sock.sendall(memoryview(piece)[sent:])


class DescriptorInbox(frames.Inbox):
    """An Inbox that takes descriptors as well; whoever reads a frame that has one calls ``descriptor`` for it.

    Only where they are of use: a small call through it takes half a microsecond longer (README.md).
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        # Those that nobody has asked for yet.
        self.descriptors: deque[int] = deque()

    def descriptor(self) -> int:
        """The oldest one that nobody has asked for; the caller must close it. Raises FrameError when none came."""
        if not self.descriptors:
            raise frames.FrameError("a frame that announces a descriptor came without one")
        return self.descriptors.popleft()

    def without(self) -> frames.Inbox:
        """An inbox that goes on where this one is, for a connection on which no descriptors will come."""
        inbox = frames.Inbox(self._sock)
        inbox._pending, inbox._large, inbox._filled, inbox._header_bytes = (
            self._pending,
            self._large,
            self._filled,
            self._header_bytes,
        )
        return inbox

    def close(self) -> None:
        """Closes what nobody has asked for."""
        while self.descriptors:
            os.close(self.descriptors.popleft())

    def _read(self) -> None:
        if self._large is not None:
            super()._read()  # the rest of a frame brings none: the kernel closes what is sent with it
            return
        data, ancillary, flags, _ = self._sock.recvmsg(self._READ_BYTES, _ANCILLARY_BYTES, _CLOEXEC)
        if ancillary:
            self._keep(ancillary)
        if flags & _TRUNCATED:
            raise frames.FrameError("more descriptors came than one to a frame")
        if not data:
            raise frames.EndOfStream(partial=bool(self._pending))
        self._pending = self._pending + data if self._pending else data

    def _keep(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.descriptors.extend(fd for (fd,) in _ONE.iter_unpack(data[: len(data) // _ONE.size * _ONE.size]))
