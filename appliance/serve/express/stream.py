"""One ModelStreamInfer call: requests are read ahead and run side by side, their answers go back in order.

Plain requests to models that answer once are errands, as small calls are. Any other request (text, sequences, large
tensors, parameters) waits until all before it are answered, and is then worked off by serve/infer.py on a thread.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from appliance import limits
from appliance.errors import Cancelled
from appliance.serve import status
from appliance.serve.express import grpc_core
from appliance.serve.express.entry import Entry, Work
from appliance.serve.express.grpc_core import Event


class ExpressStream:
    """Its state belongs to whoever holds the lock: gRPC's loop, the answering thread, or a thread of the pool."""

    def __init__(
        self, rpc: Any, deadline: float, over: Callable[[object], None], work: Work, left: Callable[[], None]
    ) -> None:
        """``left`` is called once, when the stream has ended."""
        self.rpc = rpc
        self.deadline = deadline
        self.cancelled = False
        self.on_cancel: Callable[[], None] | None = None
        self._over = over
        self._work = work
        self._left = left
        self._changed = threading.Condition(threading.Lock())
        self._entries: deque[Entry] = deque()
        self._outbox: deque[bytes] = deque()
        self._receiving = self._sending = self._begun = False
        self._no_more = self._ended = False
        self._final: tuple[int, str, tuple[tuple[str, str], ...]] | None = None
        self._close_due = True
        grpc_core.receive_close(rpc, self._closed)
        with self._changed:
            self._go_on()

    def watch(self) -> None:
        """It is watched from the beginning."""

    def seconds_left(self) -> float:
        """Until the client's deadline; infinite without one."""
        return self.deadline - time.time()

    # --- batches, in gRPC's loop -------------------------------------------------------------------------------------

    def _message(self, event: Event) -> None:
        data = grpc_core.message_of(event)
        with self._changed:
            if data is None:
                self._no_more = True
            elif self._final is None:
                self._entries.append(entry := Entry(self, self._work, data, bool(self._entries)))
        if data is not None and self._final is None:
            entry.begin()
        with self._changed:
            # Not before: whether the next may be read depends on what kind this one is.
            self._receiving = False
            self._go_on()

    def _sent(self, _event: Event) -> None:
        with self._changed:
            self._sending = False
            self._go_on()

    def _closed(self, event: Event) -> None:
        with self._changed:
            self._close_due = False
            if grpc_core.was_cancelled(event):
                self.cancelled = True
                self._outbox.clear()
                self._changed.notify_all()
            self._go_on()
        if self.cancelled and self.on_cancel is not None:
            self.on_cancel()

    # --- what entries do ---------------------------------------------------------------------------------------------

    def moved(self) -> None:
        """An entry has more to say, or nothing more."""
        with self._changed:
            self._go_on()

    def wait_for_room(self) -> None:
        """Blocks a thread of the pool while the client reads too slowly; raises Cancelled when it is gone."""
        with self._changed:
            while len(self._outbox) >= limits.stream_answers_ahead_max and not self.cancelled and self._final is None:
                self._changed.wait()
            if self.cancelled or self._final is not None:
                raise Cancelled("the caller cancelled this request")

    def end(self, code: grpc.StatusCode, details: str, reason: str) -> None:
        """The whole stream fails, behind what has been answered."""
        with self._changed:
            if self._final is None:
                self._final = (code.value[0], details, ((status.REASON_KEY, reason),))
            self._entries.clear()
            self._changed.notify_all()
            self._go_on()

    # --- one step, under the lock ------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._ended:
            self._settle()
            return
        entries = self._entries
        while entries:
            head = entries[0]
            done = head.done  # before its answers are taken: what it says last is then among them
            if head.answers:
                self._outbox.extend(head.answers)
                head.answers.clear()
            if not done:
                head.may_run()
                break
            entries.popleft()
        if self.cancelled:
            if not entries and not self._sending:
                self._finish()
            return
        if self._outbox and not self._sending:
            self._send_next()
        if not self._sending and not self._outbox and (self._final or (self._no_more and not entries)):
            self._finish()
        elif not self._receiving and not self._no_more and self._final is None and self._has_room():
            self._receiving = True
            self._start(lambda: grpc_core.receive_message(self.rpc, self._message))

    def _has_room(self) -> bool:
        waiting = len(self._entries)
        ahead = limits.stream_requests_ahead_max
        return waiting < ahead and len(self._outbox) < ahead and not (waiting and not self._entries[-1].plain)

    def _send_next(self) -> None:
        message, first, self._begun = self._outbox.popleft(), not self._begun, True
        self._sending = True
        self._changed.notify_all()
        more = bool(self._outbox)
        self._start(lambda: grpc_core.send_message(self.rpc, message, first, more, self._sent))

    def _finish(self) -> None:
        self._ended = self._sending = True
        code, details, trailers = self._final or (0, "", ())
        self._start(lambda: grpc_core.send_end(self.rpc, code, details, trailers, not self._begun, self._sent))
        self._left()

    def _start(self, batch: Callable[[], None]) -> None:
        try:
            batch()
        except ValueError:  # gRPC's core has ended the call: what was started will say so
            self._receiving = self._sending = False
            self._no_more = True
            if not self._ended:
                self._ended = True
                self._left()

    def _settle(self) -> None:
        if not self._sending and not self._receiving and not self._close_due:
            self._over(self)
