"""The loop, and both ends of a call: a real loop in a thread over a scripted engine, a real lease on the other side."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import frames
from appliance.answers import GenerateDone, InferDone, TextPiece
from appliance.calls import AnyCall, GenerateCall, InferCall, StatsCall
from appliance.control import Beat, Drain, FromChild, Route, RouteTable
from appliance.engine.base import Engine, Reply
from appliance.errors import ApplianceError, Cancelled, DeadlineExceeded, InvalidArgument, ResourceExhausted
from appliance.tensor_heads import TensorHead
from appliance.types import EngineStats, ModelKind, ModelSignature, ModelState, Tensor
from appliance.worker.engine_loop import EngineLoop
from appliance.worker.lease import Lease
from appliance.worker.router import Router

SIGNATURE = ModelSignature(ModelKind.TENSOR, "test", (), ())
DEADLINE = 10.0


class ScriptedEngine(Engine):
    """Does with each call what ``on_step(call, tensors, reply)`` says, until that returns True."""

    def __init__(self, on_step: Callable[[AnyCall, list[Tensor], Reply], bool]) -> None:
        self.queue: list[tuple[AnyCall, list[Tensor], Reply]] = []
        self.dropped = threading.Event()
        self.taken = threading.Event()
        self._on_step = on_step

    def signature(self) -> ModelSignature:
        return SIGNATURE

    def warm_up(self) -> None: ...

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:
        if isinstance(call, InferCall) and call.parameters.get("refuse"):
            raise InvalidArgument("refused", reason="TEST")
        if isinstance(call, InferCall) and call.parameters.get("break"):
            raise ZeroDivisionError
        self.queue.append((call, tensors, reply))
        self.taken.set()

    def has_work(self) -> bool:
        return bool(self.queue)

    def step(self) -> None:
        call, tensors, reply = self.queue[0]
        if reply.cancelled:
            self.dropped.set()
            self.queue.pop(0)
        elif self._on_step(call, tensors, reply):
            self.queue.pop(0)

    def stats(self) -> EngineStats:
        return EngineStats(success_count=7)


class Running:
    """A loop in a thread, and a router that leads to it."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self.engine = engine
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(16)
        self.control, theirs = socket.socketpair()
        self.inbox = frames.Inbox(self.control)
        self.router = Router(100)
        self.router.apply(RouteTable(1, (Route("m", "1", ModelState.READY, True, str(path), SIGNATURE),)))
        self.thread = threading.Thread(
            target=EngineLoop(engine, listener, theirs, frames.Inbox(theirs)).run, daemon=True
        )
        self.thread.start()

    def lease(self) -> Lease:
        return Lease(self.router, "m")

    def heard(self) -> FromChild:
        return frames.Decoder(FromChild).decode(self.inbox.next()[0])


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def start(on_step: Callable[[AnyCall, list[Tensor], Reply], bool] = echo) -> Running:
        made.append(Running(ScriptedEngine(on_step), tmp_path / f"{len(made)}.sock"))
        return made[-1]

    yield start
    for each in made:
        each.control.close()
        each.thread.join(DEADLINE)
        assert not each.thread.is_alive()


def echo(call: AnyCall, tensors: list[Tensor], reply: Reply) -> bool:
    assert isinstance(call, InferCall)
    reply.finish(InferDone(tensors=call.tensors), [t.data for t in tensors])
    return True


def infer(*data: bytes, **parameters: bool) -> tuple[InferCall, list[bytes]]:
    heads = tuple(TensorHead(f"t{i}", "UINT8", (len(d),), len(d)) for i, d in enumerate(data))
    return InferCall(tensors=heads, parameters=parameters), list(data)


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 5_000_000])
def test_tensors_go_there_and_back(run, size: int) -> None:
    running = run()
    for _ in range(3):
        with running.lease() as lease:
            answer, body = lease.exchange(*infer(bytes(size), b"end"))
            assert [t.nbytes for t in answer.tensors] == [size, 3]
            assert bytes(body) == bytes(size) + b"end"


def test_one_connection_serves_calls_one_after_the_other(run) -> None:
    running = run()
    for i in range(20):
        with running.lease() as lease:
            assert bytes(lease.exchange(*infer(b"%d" % i))[1]) == b"%d" % i
    assert len(running.router.acquire("m").pool._idle) == 1


def test_a_stream_ends_with_its_final_answer(run) -> None:
    def three(_call: AnyCall, _tensors: list[Tensor], reply: Reply) -> bool:
        for word in ("a", "b"):
            reply.send(TextPiece(word))
        reply.finish(GenerateDone())
        return True

    running = run(three)
    for _ in range(2):
        with running.lease() as lease:
            got = [a for a, _ in lease.stream(GenerateCall(prompt="x"))]
        assert got == [TextPiece("a"), TextPiece("b"), GenerateDone()]


def test_a_refusal_reaches_the_caller_and_the_connection_lives_on(run) -> None:
    running = run()
    for _ in range(2):
        with running.lease() as lease, pytest.raises(InvalidArgument, match="refused") as caught:
            lease.exchange(*infer(refuse=True))
        assert caught.value.reason == "TEST"
    with running.lease() as lease:
        lease.exchange(*infer(b"x"))


def test_a_bug_in_the_engine_is_told_without_its_text(run) -> None:
    running = run()
    with running.lease() as lease, pytest.raises(Exception, match="the daemon's log says why") as caught:
        lease.exchange(*infer(**{"break": True}))
    assert "Zero" not in str(caught.value)


def test_stats_are_answered_while_the_engine_is_busy(run) -> None:
    gate = threading.Event()
    running = run(lambda _c, _t, reply: gate.is_set() and (reply.finish(InferDone()) or True))
    with running.lease() as busy, running.lease() as lease:
        thread = threading.Thread(target=lambda: busy.exchange(*infer(b"x")))
        thread.start()
        assert lease.exchange(StatsCall())[0].stats.success_count == 7
        gate.set()
        thread.join(DEADLINE)


def test_cancelling_wakes_the_caller_and_frees_the_engine(run) -> None:
    running = run(lambda *_: False)
    caught: list[Exception] = []

    def call(lease: Lease) -> None:
        with lease:
            try:
                lease.exchange(*infer(b"x"))
            except Cancelled as error:
                caught.append(error)

    lease = running.lease()
    thread = threading.Thread(target=call, args=(lease,))
    thread.start()
    assert running.engine.taken.wait(DEADLINE)
    lease.cancel()
    thread.join(DEADLINE)
    assert len(caught) == 1
    assert running.engine.dropped.wait(DEADLINE)
    assert running.router.in_flight == 0


def test_a_cancelled_lease_sends_nothing(run) -> None:
    running = run()
    with running.lease() as lease:
        lease.cancel()
        with pytest.raises(Cancelled):
            lease.exchange(*infer(b"x"))
    assert not running.engine.taken.is_set()


def test_a_deadline_ends_a_call_that_runs(run) -> None:
    running = run(lambda *_: False)
    call, data = infer(b"x")
    call.deadline_ns = time.monotonic_ns() + 20_000_000
    with running.lease() as lease, pytest.raises(DeadlineExceeded):
        lease.exchange(call, data)
    assert running.engine.dropped.wait(DEADLINE)


def test_a_slow_reader_is_cut_off_and_nobody_else_notices(run) -> None:
    piece = TextPiece("x" * 50_000)

    def flood(call: AnyCall, tensors: list[Tensor], reply: Reply) -> bool:
        if isinstance(call, InferCall):
            return echo(call, tensors, reply)
        reply.send(piece)
        return False

    running = run(flood)
    with running.lease() as slow:
        stream = slow.stream(GenerateCall(prompt="x"))
        next(stream)
        assert running.engine.dropped.wait(DEADLINE)
        with running.lease() as other:
            assert bytes(other.exchange(*infer(b"still here"))[1]) == b"still here"
        with pytest.raises(ResourceExhausted, match="too slowly"):
            for _ in stream:
                pass


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frames.PREFIX.pack(1, 3, 0) + b"\xc1\xc1\xc1",
        b"".join(bytes(p) for p in frames.encode(InferCall(tensors=(TensorHead("a", "UINT8", (9,), 9),)), [b"short"])),
    ],
)
def test_garbage_costs_only_its_own_connection(run, garbage: bytes) -> None:
    running = run()
    path = running.router.find("m").socket
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(garbage)
        assert sock.recv(1) == b""
    with running.lease() as lease:
        lease.exchange(*infer(b"x"))


def test_a_second_call_on_a_busy_connection_is_refused(run) -> None:
    running = run(lambda *_: False)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(running.router.find("m").socket)
        frames.send(sock, *infer(b"x"))
        assert running.engine.taken.wait(DEADLINE)
        frames.send(sock, *infer(b"y"))
        assert sock.recv(1) == b""
    assert running.engine.dropped.wait(DEADLINE)


def test_the_loop_beats_with_the_engine_s_counters(run) -> None:
    assert run().heard() == Beat(stats=EngineStats(success_count=7))


def test_draining_finishes_what_runs_and_takes_nothing_new(run) -> None:
    gate = threading.Event()
    running = run(lambda c, t, r: gate.is_set() and echo(c, t, r))
    answers: list[bytes] = []

    def call() -> None:
        with running.lease() as lease:
            answers.append(bytes(lease.exchange(*infer(b"last"))[1]))

    thread = threading.Thread(target=call)
    thread.start()
    assert running.engine.taken.wait(DEADLINE)
    frames.send(running.control, Drain(60.0))
    gate.set()
    thread.join(DEADLINE)
    running.thread.join(DEADLINE)
    assert answers == [b"last"]
    assert not running.thread.is_alive()


def test_draining_ends_at_its_deadline(run) -> None:
    running = run(lambda *_: False)
    with running.lease() as lease:
        threading.Thread(target=lambda: _exchange_in_vain(lease), daemon=True).start()
        assert running.engine.taken.wait(DEADLINE)
        frames.send(running.control, Drain(0.05))
        running.thread.join(DEADLINE)
        assert not running.thread.is_alive()


def _exchange_in_vain(lease: Lease) -> None:
    with contextlib.suppress(ApplianceError):
        lease.exchange(*infer(b"x"))


def test_the_loop_ends_with_its_supervisor(run) -> None:
    running = run()
    running.control.close()
    running.thread.join(DEADLINE)
    assert not running.thread.is_alive()
