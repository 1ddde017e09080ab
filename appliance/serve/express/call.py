"""One unary call from its headers to its end, without a thread that waits for it.

Its batches end in the loop of grpc_core.py, its answer comes from the thread of answers.py or from a pool: the first
ending counts, later ones do nothing.
"""

import time
from collections.abc import Callable
from typing import Any

import grpc

from appliance.errors import ApplianceError, InvalidArgument
from appliance.serve import failed, status
from appliance.serve.express import grpc_core
from appliance.serve.express.context import RpcPeer
from appliance.serve.express.grpc_core import Event
from appliance.serve.express.once import Once
from appliance.serve.failed import NOTHING


class ExpressCall:
    """``received(call, data)`` gets the request, in the loop; it must see to it that the call ends."""

    __slots__ = (
        "_close_due",
        "_ended",
        "_final_due",
        "_once",
        "_over",
        "_received",
        "asked",
        "cancelled",
        "deadline",
        "on_cancel",
        "rpc",
        "started",
        "watched",
    )

    def __init__(
        self,
        rpc: Any,
        deadline: float,
        over: Callable[[object], None],
        received: Callable[["ExpressCall", bytes], None],
    ) -> None:
        self.rpc = rpc
        self.deadline = deadline
        self.started = time.monotonic()
        self.watched = False
        self.cancelled = False
        # For the log, once its request is known.
        self.asked = NOTHING
        self.on_cancel: Callable[[], None] | None = None
        self._over = over
        self._received = received
        self._once = Once()
        self._ended = self._final_due = self._close_due = False
        grpc_core.receive_message(rpc, self._message)

    @property
    def ended(self) -> bool:
        """Its answer or error is on the way."""
        return self._ended

    def seconds_left(self) -> float:
        """Until the client's deadline; infinite without one."""
        return self.deadline - time.time()

    # --- endings -------------------------------------------------------------------------------------------------

    def answer(self, message: bytes) -> None:
        """The call ends well."""
        if self._once.take():
            self._end(lambda: grpc_core.send_answer(self.rpc, message, self._sent))

    def fail(self, error: ApplianceError) -> None:
        """The call ends with the error's status, message and reason."""
        if self._once.take():
            failed.note(error, RpcPeer(self.rpc), self.asked)
            self._fail(status.STATUS[error.code], status.shorten(error.message), error.reason)

    def fail_internal(self) -> None:
        """After an exception that nobody foresaw, while it is being handled."""
        if self._once.take():
            message = status.internal_message(RpcPeer(self.rpc), self.asked)
            self._fail(grpc.StatusCode.INTERNAL, message, "INTERNAL")

    def _fail(self, code: grpc.StatusCode, details: str, reason: str) -> None:
        trailers = ((status.REASON_KEY, reason),)
        self._end(lambda: grpc_core.send_status(self.rpc, code.value[0], details, trailers, self._sent))

    def _end(self, batch: Callable[[], None]) -> None:
        self._final_due = self._ended = True
        try:
            batch()
        except ValueError:  # gRPC's core has ended it already
            self._final_due = False
            self._settle()

    # --- the client's end ----------------------------------------------------------------------------------------

    def watch(self) -> None:
        """From here on a client that leaves is noticed; a call that is answered at once can do without."""
        if self.watched:
            return
        self.watched = self._close_due = True
        try:
            grpc_core.receive_close(self.rpc, self._closed)
        except ValueError:
            self._close_due = False

    def _closed(self, event: Event) -> None:
        self._close_due = False
        if grpc_core.was_cancelled(event):
            self.cancelled = True
            if self.on_cancel is not None:
                self.on_cancel()
        self._settle()

    # --- batches -------------------------------------------------------------------------------------------------

    def _message(self, event: Event) -> None:
        data = grpc_core.message_of(event)
        if data is not None:
            self._received(self, data)
        else:  # the client is gone, or has ended its side without a word
            self.fail(InvalidArgument("the call carries no request", reason="MALFORMED"))

    def _sent(self, _event: Event) -> None:
        self._final_due = False
        self._settle()

    def _settle(self) -> None:
        if self._ended and not self._final_due and not self._close_due:
            self._over(self)
