"""What counts for probation, at the place where answers leave: a real connection, and a clock that only the test moves."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from appliance.answers import GenerateDone, InferDone, TextPiece
from appliance.calls import AnyCall, GenerateCall, InferCall, ProfileCall, StatsCall, TokenizeCall
from appliance.errors import (
    ApplianceError,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from appliance.worker.call_tally import CallTally
from appliance.worker.engine_connection import EngineConnection, SocketReply
from appliance.worker.latency import bucket_of

MS = 1_000_000


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, sock: socket.socket) -> None:
        self.now_ns = 1_000 * MS
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now_ns)
        self.tally = CallTally()
        self.connection = EngineConnection(sock, lambda _connection, _want: None, self.tally)

    def begin(self, call: AnyCall | None = None, deadline_ms: int = 0) -> SocketReply:
        call = call or InferCall(deadline_ns=self.now_ns + deadline_ms * MS if deadline_ms else 0)
        return self.connection.begin(call)

    def after(self, ms: float, act: Callable[[], None]) -> None:
        self.now_ns += int(ms * MS)
        act()

    def counted(self) -> dict[int, int]:
        return self.tally.latency


def took(*ms: float) -> dict[int, int]:
    counts: dict[int, int] = {}
    for each in ms:
        bucket = bucket_of(int(each * 1000))
        counts[bucket] = counts.get(bucket, 0) + 1
    return counts


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Rig(monkeypatch, ours)


def test_answers_count_by_their_time(rig: Rig) -> None:
    for ms in (1, 20, 20):
        reply = rig.begin()
        rig.after(ms, lambda reply=reply: reply.finish(InferDone()))
    assert rig.counted() == took(1, 20, 20)
    assert rig.tally.faults == 0


def test_a_stream_counts_by_its_time_for_each_piece(rig: Rig) -> None:
    reply = rig.begin(GenerateCall())
    for _ in range(10):
        rig.after(7, lambda: reply.send(TextPiece("a")))
    reply.finish(GenerateDone())
    assert rig.counted() == took(7)


@pytest.mark.parametrize(
    ("error", "faults"),
    [
        (InternalError("x"), 1),
        (InvalidArgument("x"), 0),
        (InvalidArgument("its Gather operator broke", reason="MODEL_RUN_FAILED"), 1),
        (ResourceExhausted("x"), 0),
        (FailedPrecondition("x"), 0),
        (NotFound("x"), 0),
        (Unimplemented("x"), 0),
        (Unavailable("x"), 0),
        (DeadlineExceeded("x"), 0),
    ],
)
def test_only_the_models_own_failures_are_faults(rig: Rig, error: ApplianceError, faults: int) -> None:
    reply = rig.begin()
    rig.after(5, lambda: reply.fail(error))
    assert (rig.tally.faults, rig.counted()) == (faults, {})


def test_a_deadline_that_passed_counts_with_the_time_it_gave(rig: Rig) -> None:
    reply = rig.begin(deadline_ms=30)
    rig.after(50, lambda: reply.cancelled)  # the engine asks, and so it is told to the caller
    assert reply.done
    reply.finish(InferDone())
    assert rig.counted() == took(50)


def test_a_client_that_left_at_its_deadline_counts_too(rig: Rig) -> None:
    rig.after(50, rig.begin(deadline_ms=30).abandon)
    assert rig.counted() == took(50)


def test_a_client_that_left_of_its_own_will_counts_for_nothing(rig: Rig) -> None:
    rig.after(50, rig.begin(deadline_ms=100).abandon)
    rig.after(50, rig.begin().abandon)
    assert rig.counted() == {}


def test_a_deadline_that_was_out_of_reach_says_nothing(rig: Rig) -> None:
    reply = rig.begin(deadline_ms=30)
    reply.fail(DeadlineExceeded("the queue is longer than that"))
    assert rig.counted() == {}


def test_an_answered_call_counts_once(rig: Rig) -> None:
    reply = rig.begin(deadline_ms=10)
    rig.after(5, lambda: reply.finish(InferDone()))
    rig.after(50, reply.abandon)
    assert rig.counted() == took(5)


@pytest.mark.parametrize("call", [StatsCall(), ProfileCall(), TokenizeCall(text="x")])
def test_what_is_no_work_of_the_model_is_not_counted(rig: Rig, call: AnyCall) -> None:
    reply = rig.begin(call)
    rig.after(50, lambda: reply.fail(InternalError("x")))
    assert (rig.tally.faults, rig.counted()) == (0, {})
