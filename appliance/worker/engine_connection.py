"""The engine's end of a front-end's connection: one call at a time comes in, its answers go out without ever blocking."""

import socket
import time
from collections.abc import Callable, Sequence

from appliance import frames, limits
from appliance.answers import AnyAnswer, Failure, InferDone
from appliance.calls import AnyCall, InferCall, ProfileCall, ShareCall, StatsCall, TokenizeCall
from appliance.engine.base import Placed
from appliance.errors import ApplianceError, DeadlineExceeded, ResourceExhausted
from appliance.tensor_heads import TensorHead, split_body
from appliance.types import Buffer, Tensor
from appliance.worker.call_tally import CallTally
from appliance.worker.descriptors import DescriptorInbox
from appliance.worker.engine_regions import EngineRegions, Placement

# What they take says nothing of how the model does.
_UNTALLIED = (StatsCall, ProfileCall, TokenizeCall)


class EngineConnection:
    """Non-blocking; what the socket does not take now waits in ``_unsent`` until the loop sees it writable."""

    __slots__ = (
        "_descriptors",
        "_regions",
        "_shares",
        "_tally",
        "_unsent",
        "_unsent_bytes",
        "_want_write",
        "closed",
        "inbox",
        "reply",
        "sock",
    )

    def __init__(
        self,
        sock: socket.socket,
        want_write: Callable[["EngineConnection", bool], None],
        tally: CallTally | None = None,
    ) -> None:
        """``want_write(connection, wanted)`` tells the loop whether to watch for room to write."""
        sock.setblocking(False)
        self.sock = sock
        self._tally = tally
        # None once it is known that this connection is not to bring any.
        self._descriptors: DescriptorInbox | None = DescriptorInbox(sock)
        self.inbox: frames.Inbox = self._descriptors
        self._regions: EngineRegions | None = None
        self._shares = False
        self.reply: SocketReply | None = None
        self.closed = False
        self._unsent: list[Buffer] = []
        self._unsent_bytes = 0
        self._want_write = want_write

    def share(self, call: ShareCall) -> None:
        """Takes memory that the front-end hands over; raises FrameError or ValueError for what is not to be used."""
        if self._descriptors is None:
            raise ValueError("memory on a connection that began with a call")
        self._shares = True
        if call.region != -1:
            if self._regions is None:
                self._regions = EngineRegions()
            self._regions.add(call, self._descriptors.descriptor())

    def begin(self, call: AnyCall) -> "SocketReply":
        """Where the answers of ``call`` go. Raises ValueError for a call that no front-end of ours makes."""
        tally = None if type(call) in _UNTALLIED else self._tally
        reply = self.reply = SocketReply(self, call.deadline_ns, tally)
        descriptors = self._descriptors
        if descriptors is not None:
            if descriptors.descriptors:
                raise ValueError("descriptors came with a call")
            if not self._shares:
                self.inbox, self._descriptors = descriptors.without(), None
            elif self._regions is not None and type(call) is InferCall:
                reply.placement = self._regions.placement(call)
        return reply

    def tensors(self, call: AnyCall, body: memoryview) -> list[Tensor]:
        """The tensors of a call wherever they lie; after this the call itself says nothing of their places.

        Raises ValueError as ``begin`` does, ApplianceError for a region that its client has spoilt.
        """
        if type(call) is not InferCall:
            return []
        if self._regions is None:
            return split_body(call.tensors, body)
        return self._regions.open(call, body)

    def close(self) -> None:
        """Lets go of the socket, and of the memory that came over it."""
        if self._descriptors is not None:
            self._descriptors.close()
        if self._regions is not None:
            self._regions.close()
        self.sock.close()

    def write(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        """Sends a frame, as far as the socket takes it now; a connection that broke is left for the loop to close."""
        pieces = frames.encode(answer, buffers)
        if self._unsent:
            self._unsent += pieces
            self._unsent_bytes += sum(map(len, pieces))
            return
        self._push(pieces)

    def flush(self) -> None:
        """Sends more of what waits."""
        self._push(self._unsent)

    def _push(self, pieces: list[Buffer]) -> None:
        waited = bool(self._unsent)
        try:
            while pieces:
                pieces = frames.send_some(self.sock, pieces)
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
            pieces = []
        self._unsent = pieces
        self._unsent_bytes = sum(map(len, pieces)) if pieces else 0
        if bool(pieces) != waited:
            self._want_write(self, bool(pieces))

    @property
    def backlog_bytes(self) -> int:
        """What the other side has not taken yet."""
        return self._unsent_bytes


class SocketReply:
    """engine/base.Reply over a connection. Answers each call exactly once, whatever the engine forgets."""

    __slots__ = ("_connection", "_deadline_ns", "_done", "_gone", "_pieces", "_tally", "arrived_ns", "placement")

    def __init__(self, connection: EngineConnection, deadline_ns: int, tally: CallTally | None = None) -> None:
        self.arrived_ns = time.monotonic_ns()
        self._connection = connection
        self._deadline_ns = deadline_ns
        self._tally = tally
        self._pieces = 0
        self._done = False
        self._gone = False
        # Where the outputs go, if not into the answer's body.
        self.placement: Placement | None = None

    @property
    def done(self) -> bool:
        """The final answer is on its way, or nobody waits for it."""
        return self._done or self._gone

    @property
    def cancelled(self) -> bool:
        if self._gone or self._done:
            return True
        if self._deadline_ns and time.monotonic_ns() > self._deadline_ns:
            self.fail(DeadlineExceeded("the request's deadline passed before it was answered", reason="DEADLINE"))
            return True
        return False

    @property
    def backlogged(self) -> bool:
        return self._connection.backlog_bytes > limits.stream_backlogged_bytes

    def abandon(self) -> None:
        """The front-end closed the connection: the client is gone, of its own will or because its deadline passed."""
        if self._tally is not None and not self.done and self._late(now := time.monotonic_ns()):
            self._tally.took(self._per_piece(now))
        self._gone = True

    def _late(self, now: int) -> bool:
        return 0 < self._deadline_ns <= now

    def _per_piece(self, now: int) -> int:
        """Of a stream the time for each piece, as a longer answer is not a slower one. Nanoseconds."""
        return (now - self.arrived_ns) // max(1, self._pieces)

    def send(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        if self._done or self._gone:
            return
        if self._connection.backlog_bytes > limits.stream_backlog_bytes_max:
            # The other streams must not pay for it with memory: this one ends, behind what it has not read yet.
            self.fail(ResourceExhausted("the client reads its stream too slowly", reason="SLOW_READER"))
            return
        self._pieces += 1
        self._connection.write(answer, buffers)

    def place(self, heads: tuple[TensorHead, ...], buffers: Sequence[Buffer]) -> Placed:
        placement, self.placement = self.placement, None
        if placement is None or self.done:
            return heads, buffers
        answer, left = placement.apply(InferDone(heads), buffers)
        return answer.tensors, left

    def finish(self, answer: AnyAnswer, buffers: Sequence[Buffer] = ()) -> None:
        if self._done or self._gone:
            return
        self._done = True
        if self._tally is not None:
            now = time.monotonic_ns()
            self._tally.ended(answer, self._per_piece(now), self._late(now))
        self._connection.reply = None
        if self.placement is not None and isinstance(answer, InferDone):
            try:
                answer, buffers = self.placement.apply(answer, buffers)
            except ApplianceError as error:
                answer, buffers = _failure(error), ()
        self._connection.write(answer, buffers)

    def fail(self, error: ApplianceError) -> None:
        self.finish(_failure(error))


def _failure(error: ApplianceError) -> Failure:
    return Failure(code=error.code.value, reason=error.reason, message=error.message)
