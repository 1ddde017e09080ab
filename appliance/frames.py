"""Frames: what travels over the unix sockets between the daemon's processes.

    u8 version | u8[3] zero | u32 header bytes | u64 body bytes | header | body

Integers are little-endian. The header is MessagePack of one of the structs of calls.py or control.py (tagged arrays);
the body is raw tensor bytes. Frames are sent with scatter-gather, so tensor bytes are never copied in Python.
"""

import socket
import struct
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec

from appliance import limits
from appliance.types import Buffer

VERSION = 1
PREFIX = struct.Struct("<B3xIQ")

T = TypeVar("T")
_encoder = msgspec.msgpack.Encoder()


class FrameError(Exception):
    """The other side does not speak this protocol, or not this version; the connection is of no further use."""


class EndOfStream(Exception):
    """The other side closed the connection; ``partial`` when in the middle of a frame."""

    def __init__(self, partial: bool) -> None:
        super().__init__("connection closed")
        self.partial = partial


def encode(head: msgspec.Struct, buffers: Sequence[Buffer] = ()) -> list[Buffer]:
    """The pieces of one frame, to be sent in order: prefix and header in one, then the buffers as they are."""
    header = _encoder.encode(head)
    body = 0
    for b in buffers:
        body += len(b)
    return [PREFIX.pack(VERSION, len(header), body) + header, *buffers]


def send(sock: socket.socket, head: msgspec.Struct, buffers: Sequence[Buffer] = ()) -> None:
    """Sends one whole frame on a blocking socket."""
    pieces = encode(head, buffers)
    while pieces:
        pieces = send_some(sock, pieces)


def send_some(sock: socket.socket, pieces: list[Buffer]) -> list[Buffer]:
    """Sends what the socket takes in one go and returns what is left; raises the socket's OSError."""
    # sendmsg(2) refuses a longer list as a whole, and a slow reader's small answers become one.
    many = len(pieces) > limits.send_pieces_max
    return skip(pieces, sock.sendmsg(pieces[: limits.send_pieces_max] if many else pieces))


def skip(pieces: Sequence[Buffer], count: int) -> list[Buffer]:
    """What is left of ``pieces`` after their first ``count`` bytes."""
    for index, piece in enumerate(pieces):
        if count < len(piece):
            return [memoryview(piece)[count:], *pieces[index + 1 :]]
        count -= len(piece)
    return []


def parse_prefix(prefix: Buffer) -> tuple[int, int]:
    """Header and body length; raises FrameError for a foreign version or a length over the bounds."""
    version, header, body = PREFIX.unpack(prefix)
    if version != VERSION:
        raise FrameError(f"frame version {version}, expected {VERSION}")
    if header > limits.frame_header_bytes_max or body > limits.frame_body_bytes_max:
        raise FrameError(f"frame of {header} + {body} bytes is over the bounds")
    return header, body


class Decoder(Generic[T]):
    """Decodes headers of one union of structs."""

    def __init__(self, union: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(union)

    def decode(self, header: Buffer) -> T:
        """Raises FrameError when the header is none of the union."""
        try:
            return self._decoder.decode(header)
        except msgspec.MsgspecError as error:
            raise FrameError(f"bad frame header: {error}") from error


class Inbox:
    """Takes whole frames out of a socket, blocking or not.

    Small frames come many to a read; a frame that is larger than one read is received straight into memory of its own.
    """

    _READ_BYTES = 65536

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._pending = b""
        self._large: bytearray | None = None
        self._filled = 0
        self._header_bytes = 0

    def next(self) -> tuple[memoryview, memoryview] | None:
        """The next frame's (header, body); None when a non-blocking socket has no more for now.

        Raises EndOfStream, FrameError, or the socket's OSError.
        """
        while True:
            frame = self.take()
            if frame is not None:
                return frame
            try:
                self._read()
            except BlockingIOError:
                return None

    def take(self) -> tuple[memoryview, memoryview] | None:
        """A frame that has been read already, if there is a whole one: a poll of the socket would not tell of it."""
        if self._large is not None:
            if self._filled < len(self._large):
                return None
            view, self._large = memoryview(self._large), None
            return view[PREFIX.size : self._header_bytes], view[self._header_bytes :]
        if len(self._pending) < PREFIX.size:
            return None
        header, body = parse_prefix(self._pending[: PREFIX.size])
        body_start = PREFIX.size + header
        total = body_start + body
        if len(self._pending) >= total:
            view = memoryview(self._pending)[:total]
            self._pending = self._pending[total:]
            return view[PREFIX.size : body_start], view[body_start:]
        self._large = bytearray(total)
        self._filled = len(self._pending)
        self._large[: self._filled] = self._pending
        self._pending = b""
        self._header_bytes = body_start
        return None

    def _read(self) -> None:
        if self._large is not None:
            count = self._sock.recv_into(memoryview(self._large)[self._filled :])
            if not count:
                raise EndOfStream(partial=True)
            self._filled += count
            return
        data = self._sock.recv(self._READ_BYTES)
        if not data:
            raise EndOfStream(partial=bool(self._pending))
        self._pending = self._pending + data if self._pending else data
