"""The one place that knows grpcio's inside: a server whose completion queue we read ourselves.

grpcio's own loop gives every call a thread, three hand-overs between threads and four events. For one method we start
the same operations of gRPC's core (grpc/grpc.h) from the loop itself. All other events go to grpcio's own code, so
every other method, shutdown included, is grpcio's. Names that begin with an underscore may change with any release:
``supported`` looks for all of them, and without them the server runs as grpcio would run it.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc

try:
    from grpc import _server as _grpc_server
    from grpc._cython import cygrpc as _grpc_core  # type: ignore[attr-defined]  # compiled, without types
except ImportError:  # a grpcio that is built differently
    _grpc_server = _grpc_core = None  # type: ignore[assignment]

from appliance import events

_log = logging.getLogger(__name__)
_POLL_SECONDS = 1.0
_FLUSH_POLL_SECONDS = 0.005
# grpc/impl/grpc_types.h, GRPC_WRITE_BUFFER_HINT.
_BUFFER_HINT = 1

_server: Any = _grpc_server
_core: Any = _grpc_core
_SERVER_NAMES = (
    "_REQUEST_CALL_TAG",
    "_ServerStage",
    "_begin_shutdown_once",
    "_process_event_and_continue",
    "_request_call",
    "_request_registered_call",
    "_stop_serving",
)
_CORE_NAMES = (
    "CompletionType",
    "ReceiveCloseOnServerOperation",
    "ReceiveMessageOperation",
    "SendInitialMetadataOperation",
    "SendMessageOperation",
    "SendStatusFromServerOperation",
    "auth_context",
)


class Event(Protocol):
    """A completed batch of operations."""

    batch_operations: Any


class Lane(Protocol):
    """What takes the calls of one method."""

    @property
    def method(self) -> bytes:
        """Its path, as HTTP/2 has it."""
        ...

    def begin(self, rpc: Any, deadline: float, over: Callable[[object], None]) -> object:
        """A call has come; returns what stands for it. ``over`` is to be called with that when its last batch ended."""
        ...


def supported() -> bool:
    """Whether this grpcio has all that is used here."""
    if _server is None:
        return False
    return all(hasattr(_server, n) for n in _SERVER_NAMES) and all(hasattr(_core, n) for n in _CORE_NAMES)


def start(server: grpc.Server, lanes: Sequence[Lane], rest: Callable[[], None]) -> None:
    """Starts ``server``: calls of a lane's method go to that lane, all others to the server's own handlers.

    ``rest`` is called before each event is looked at (osutil/rest.py).
    """
    state = getattr(server, "_state", None)
    if state is None or not supported():
        _log.warning(
            "this grpcio (%s) is not one that is known: small calls take a thread each",
            grpc.__version__,
            extra=events.INTERNAL_FAULT.of(),
        )
        server.start()
        return
    with state.lock:
        state.server.start()
        state.stage = _server._ServerStage.STARTED
        for method in state.registered_method_handlers:  # grpc_health's generated code registers its own
            _server._request_registered_call(state, method)
        _server._request_call(state)
    threading.Thread(
        target=_serve, args=(state, {lane.method: lane for lane in lanes}, rest), name="express", daemon=True
    ).start()


def flush(server: grpc.Server, until: float) -> None:
    """Waits until calls that ``server`` has begun are over, till ``until`` on time.monotonic()'s clock."""
    state = getattr(server, "_state", None)
    if state is None or not supported():
        server.stop(until - time.monotonic()).wait()
        return
    with state.lock:
        begun = set(state.rpc_states)
    while begun and time.monotonic() < until:
        time.sleep(_FLUSH_POLL_SECONDS)
        with state.lock:
            begun &= state.rpc_states


def _serve(state: Any, lanes: dict[bytes, Lane], rest: Callable[[], None]) -> None:
    """Grpcio's _serve with one branch more, and rests."""
    poll, request_tag = state.completion_queue.poll, _server._REQUEST_CALL_TAG
    timeout_type = _core.CompletionType.queue_timeout
    stepped = _Stepped(state)
    while True:
        event = poll(time.time() + _POLL_SECONDS)
        rest()
        tag = event.tag
        if type(tag) is Step:
            try:
                tag.run(event)
            except Exception:  # this thread serves everybody
                _log.exception("a step of a call failed", extra=events.INTERNAL_FAULT.of())
        elif event.completion_type == timeout_type:
            if state.server_deallocated:
                _server._begin_shutdown_once(state)
        elif tag is request_tag and event.success and (lane := lanes.get(event.call_details.method)) is not None:
            stepped.begin(event, lane)
        elif not _server._process_event_and_continue(state, event):
            return
        if stepped.stopped:
            return
        # grpcio's own loop does so: an event that keeps a call alive over the next poll can make it spin.
        event = tag = None


class Step:
    """The tag of a batch: what happens when it has completed."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[Event], None]) -> None:
        self.run = run


class _Stepped:
    """Keeps grpcio's books for calls that are not its own, so that its shutdown waits for them."""

    def __init__(self, state: Any) -> None:
        self._state = state
        self.stopped = False

    def begin(self, event: Any, lane: Lane) -> None:
        state = self._state
        with state.lock:
            state.due.remove(event.tag)
            # The next call may come while this one is begun.
            if state.stage is _server._ServerStage.STARTED:
                _server._request_call(state)
            call = lane.begin(event.call, event.call_details.deadline, self._over)
            state.rpc_states.add(call)
            if not state.due:
                self.stopped = _server._stop_serving(state)

    def _over(self, call: object) -> None:
        """Runs in the loop, like everything that a batch's end sets off."""
        state = self._state
        with state.lock:
            state.rpc_states.discard(call)
            if not state.due and not state.rpc_states:
                self.stopped = _server._stop_serving(state)


def receive_message(rpc: Any, then: Callable[[Event], None]) -> None:
    """The request's bytes will be ``message_of`` the event."""
    rpc.start_server_batch((_core.ReceiveMessageOperation(0),), Step(then))


def message_of(event: Event) -> bytes | None:
    """None when the client went away, or ended its side without a message."""
    message: bytes | None = event.batch_operations[0].message()
    return message


def receive_close(rpc: Any, then: Callable[[Event], None]) -> None:
    """Completes when the call is over; ``was_cancelled`` of the event tells how."""
    rpc.start_server_batch((_core.ReceiveCloseOnServerOperation(0),), Step(then))


def was_cancelled(event: Event) -> bool:
    """Whether the client gave up before it had its answer."""
    return bool(event.batch_operations[0].cancelled())


def send_answer(rpc: Any, message: bytes, then: Callable[[Event], None]) -> None:
    """Initial metadata, the one message and the status OK in one batch."""
    operations = (
        _core.SendInitialMetadataOperation(None, 0),
        _core.SendMessageOperation(message, 0),
        _core.SendStatusFromServerOperation(None, 0, b"", 0),
    )
    rpc.start_server_batch(operations, Step(then))


def send_status(
    rpc: Any, code: int, details: str, trailers: tuple[tuple[str, str], ...], then: Callable[[Event], None]
) -> None:
    """Ends the call without a message. ``code`` is a number of grpc.StatusCode."""
    operations = (
        _core.SendInitialMetadataOperation(None, 0),
        _core.SendStatusFromServerOperation(trailers, code, details.encode(), 0),
    )
    rpc.start_server_batch(operations, Step(then))


def send_message(rpc: Any, message: bytes, first: bool, more: bool, then: Callable[[Event], None]) -> None:
    """One message of a stream; only one may be on its way. ``more``: the next one follows at once, so it may wait for that."""
    # Not the first: its batch holds the initial metadata, too, and would end only when they are written.
    send = _core.SendMessageOperation(message, _BUFFER_HINT if more and not first else 0)
    rpc.start_server_batch((_core.SendInitialMetadataOperation(None, 0), send) if first else (send,), Step(then))


def send_end(
    rpc: Any,
    code: int,
    details: str,
    trailers: tuple[tuple[str, str], ...],
    bare: bool,
    then: Callable[[Event], None],
) -> None:
    """The status of a stream; ``bare``: no message came before it."""
    end = _core.SendStatusFromServerOperation(trailers, code, details.encode(), 0)
    rpc.start_server_batch((_core.SendInitialMetadataOperation(None, 0), end) if bare else (end,), Step(then))


def auth_context(rpc: Any) -> dict[str, Any]:
    """As ServicerContext.auth_context."""
    return {key.decode(): value for key, value in (_core.auth_context(rpc) or {}).items()}
