"""A gRPC client that costs next to nothing: one connection, one call at a time, one thread that blocks in recv.

grpcio's client hands a call between three threads; on a machine that is busy each hand-over waits for a processor, and
that is the client's time, not the server's. HTTP/2 as in RFC 9113, header blocks without Huffman code and without the
dynamic table (RFC 7541, 6.2.2), flow control as far as one small call at a time needs it.
"""

import socket
import struct
import time
from dataclasses import dataclass

from bench.target import INFER, BenchError, Target

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
WINDOW_MAX = 2**31 - 1
# The connection's window is filled up again when so much of it is used.
REFILL_BYTES = 2**29
FRAME_HEAD = 9
# A frame is at most this long unless the server allows more, which this client does not ask for.
FRAME_BYTES_MAX = 16384
RECEIVE_BYTES = 1 << 18
STREAM_MAX = 2**31 - 1


@dataclass(frozen=True)
class Answer:
    """A call's messages with their prefixes of 5 bytes as they came, and when it was sent and answered.

    On the clock of time.monotonic_ns. ``data`` is empty when the call failed: gRPC's status is in the trailers, which this
    client does not read.
    """

    data: bytes
    sent_ns: int
    ended_ns: int

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return bool(self.data)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header field that no table is asked for and none remembers; both strings shorter than 127 bytes."""
    return bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()


def header_block(authority: str, path: str) -> bytes:
    """The headers of a gRPC call."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": authority,
              "content-type": "application/grpc", "te": "trailers", "user-agent": "bench-thin"}  # fmt: skip
    return b"".join(literal(name, value) for name, value in fields.items())


def body_frames(stream: int, message: bytes) -> bytes:
    """A gRPC message as the DATA frames that end our side of the stream."""
    body = b"\0" + struct.pack(">I", len(message)) + message
    pieces = [body[start : start + FRAME_BYTES_MAX] for start in range(0, len(body), FRAME_BYTES_MAX)]
    last = len(pieces) - 1
    return b"".join(frame(DATA, END_STREAM if place == last else 0, stream, one) for place, one in enumerate(pieces))


class ThinClient:
    """``call`` sends one request and returns its answer. BenchError when the server ends the connection."""

    def __init__(self, target: Target, timeout_s: float = 10.0, path: str = INFER) -> None:
        self._label = target.label
        if target.address.startswith("unix:"):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(target.address.removeprefix("unix:"))
            authority = "localhost"
        else:
            host, _, port = target.address.rpartition(":")
            self._socket = socket.create_connection((host.strip("[]"), int(port)))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            authority = target.address
        self._socket.settimeout(timeout_s)
        self._headers = header_block(authority, path)
        self._stream = 1
        self._pending = b""
        self._unreturned = 0
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW_MAX))
        window = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_MAX - 65535))
        self._socket.sendall(PREFACE + settings + window)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def call(self, message: bytes) -> Answer:
        """One request, one answer, or the end of the call without one."""
        stream, self._stream = self._stream, self._stream + 2
        if stream > STREAM_MAX:
            raise BenchError(f"{self._label}: the connection has no stream left")
        whole = frame(HEADERS, END_HEADERS, stream, self._headers) + body_frames(stream, message)
        sent = time.monotonic_ns()
        try:
            self._socket.sendall(whole)
            data = self._read_until_end(stream)
        except TimeoutError:
            raise BenchError(f"{self._label}: a call was not answered in time") from None
        except OSError as error:
            raise BenchError(f"{self._label}: the connection broke: {error.strerror}") from None
        return Answer(data, sent, time.monotonic_ns())

    def _read_until_end(self, stream: int) -> bytes:
        data = b""
        while True:
            kind, flags, of, payload = self._next_frame()
            if kind == DATA:
                self._return_window(len(payload))
                data += payload if of == stream else b""
            if of == stream and (kind == RST_STREAM or (kind in {DATA, HEADERS} and flags & END_STREAM)):
                return data if kind != RST_STREAM else b""
            if kind == GOAWAY:
                raise BenchError(f"{self._label}: the server ended the connection (GOAWAY)")
            if kind in {SETTINGS, PING} and not flags & ACK:
                self._socket.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))

    def _next_frame(self) -> tuple[int, int, int, bytes]:
        pending = self._pending
        while len(pending) < FRAME_HEAD or len(pending) < FRAME_HEAD + int.from_bytes(pending[:3], "big"):
            more = self._socket.recv(RECEIVE_BYTES)
            if not more:
                raise BenchError(f"{self._label}: the server closed the connection")
            pending += more
        end = FRAME_HEAD + int.from_bytes(pending[:3], "big")
        self._pending = pending[end:]
        return pending[3], pending[4], int.from_bytes(pending[5:9], "big") & STREAM_MAX, pending[FRAME_HEAD:end]

    def _return_window(self, count: int) -> None:
        self._unreturned += count
        if self._unreturned >= REFILL_BYTES:
            self._socket.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unreturned)))
            self._unreturned = 0
