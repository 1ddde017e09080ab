"""The sync process's end of its control channel: questions in, answers and heart-beats out, all in the work loop."""

import select
import socket

import msgspec

from appliance import control, frames, limits
from appliance.clock import Clock, SystemClock

_NEVER_NS = 1 << 63


class Link:
    """Whole messages over the socket to the supervisor. Raises frames.EndOfStream when the supervisor is gone."""

    def __init__(self, sock: socket.socket, clock: Clock | None = None) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._clock = clock or SystemClock()
        self._inbox = frames.Inbox(sock)
        self._decoder: frames.Decoder[control.ToChild] = frames.Decoder(control.ToChild)
        self._beat_due_ns = 0

    def receive(self) -> control.ToChild:
        """Waits for the next message; beats while it waits."""
        message = self.receive_or_wake(None, _NEVER_NS)
        assert message is not None  # nothing else ends the wait
        return message

    def receive_or_wake(self, wake: int | None, due_ns: int) -> control.ToChild | None:
        """The next message; None when the descriptor ``wake`` is readable, or at ``due_ns`` on CLOCK_MONOTONIC."""
        watched = [self._sock.fileno()] if wake is None else [self._sock.fileno(), wake]
        while True:
            self.beat()
            frame = self._inbox.next()
            if frame is not None:
                return self._decoder.decode(frame[0])
            now = self._clock.monotonic_ns()
            if now >= due_ns:
                return None
            left_ns = max(0, min(self._beat_due_ns, due_ns) - now)
            ready, _, _ = select.select(watched, [], [], left_ns / 1e9)
            if wake in ready:
                return None

    def send(self, message: msgspec.Struct) -> None:
        """Sends a message whole, waiting for a supervisor that reads slowly."""
        pieces = frames.encode(message)
        try:
            while pieces:
                select.select([], [self._sock], [])
                pieces = frames.send_some(self._sock, pieces)
        except (BrokenPipeError, ConnectionResetError):
            raise frames.EndOfStream(partial=False) from None

    def beat(self) -> None:
        """Says that the work loop turns, when it is time to; to be called often during long work.

        Also looks whether the supervisor is still there: for a dead one nothing needs to be finished.
        """
        now = self._clock.monotonic_ns()
        if now < self._beat_due_ns:
            return
        self._beat_due_ns = now + limits.beat_interval_ms * 1_000_000
        try:
            if not self._sock.recv(1, socket.MSG_PEEK):
                raise frames.EndOfStream(partial=False)
        except BlockingIOError:
            pass
        except ConnectionResetError:
            raise frames.EndOfStream(partial=False) from None
        self.send(control.Beat())
