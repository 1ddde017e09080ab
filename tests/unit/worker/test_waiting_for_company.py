"""The loop around an engine whose calls may wait for company: it sleeps meanwhile, and wakes for what arrives."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import frames
from appliance.answers import InferDone
from appliance.calls import AnyCall, InferCall
from appliance.control import Beat, Drain, FromChild
from appliance.engine.base import Engine, Reply
from appliance.types import EngineStats, ModelKind, ModelSignature, Tensor
from appliance.worker.engine_loop import EngineLoop

DEADLINE = 10.0


class Pairs(Engine):
    """Runs calls two by two, or a single one ``seconds`` after it came."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting: list[Reply] = []
        self.runs: list[int] = []
        self.steps = 0
        self.until = 0.0

    def signature(self) -> ModelSignature:
        return ModelSignature(ModelKind.TENSOR, "test", (), ())

    def warm_up(self) -> None: ...

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:
        self.waiting.append(reply)
        self.until = time.monotonic() + self.seconds

    def has_work(self) -> bool:
        return bool(self.waiting)

    def wait_seconds(self) -> float:
        return max(0.0, self.until - time.monotonic()) if len(self.waiting) < 2 else 0.0

    def step(self) -> None:
        self.steps += 1
        if self.wait_seconds():
            return
        replies, self.waiting = self.waiting[:2], self.waiting[2:]
        self.runs.append(len(replies))
        for reply in replies:
            reply.finish(InferDone())

    def stats(self) -> EngineStats:
        return EngineStats()


class Running:
    """A loop in a thread, and the ends of its sockets that others have."""

    def __init__(self, engine: Engine, path: Path) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(16)
        self.path = path
        self.control, theirs = socket.socketpair()
        loop = EngineLoop(engine, listener, theirs, frames.Inbox(theirs))
        self.thread = threading.Thread(target=loop.run, daemon=True)
        self.thread.start()

    def call(self) -> socket.socket:
        """Sends one; what comes back is its answer."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(DEADLINE)
        sock.connect(str(self.path))
        frames.send(sock, InferCall())
        return sock


def answered(sock: socket.socket) -> None:
    frame = frames.Inbox(sock).next()
    assert frame is not None
    sock.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Engine], Running]]:
    made: list[Running] = []

    def start(engine: Engine) -> Running:
        made.append(Running(engine, tmp_path / "e.sock"))
        return made[-1]

    yield start
    for each in made:
        each.control.close()
        each.thread.join(DEADLINE)
        assert not each.thread.is_alive()


def test_a_call_without_company_runs_when_its_time_is_up(run: Callable[[Engine], Running]) -> None:
    engine = Pairs(0.05)
    began = time.monotonic()
    answered(run(engine).call())
    assert time.monotonic() - began >= 0.05
    assert engine.runs == [1]
    assert engine.steps < 20  # it slept, where spinning would make thousands


def test_company_ends_the_wait(run: Callable[[Engine], Running]) -> None:
    engine = Pairs(3600.0)
    running = run(engine)
    first, second = running.call(), running.call()
    answered(first)
    answered(second)
    assert engine.runs == [2]


def test_the_loop_beats_while_calls_wait(run: Callable[[Engine], Running]) -> None:
    running = run(Pairs(3600.0))
    waiting = running.call()
    inbox = frames.Inbox(running.control)
    running.control.settimeout(DEADLINE)
    for _ in range(3):  # the first is sent at once, the others a second later each
        frame = inbox.next()
        assert frame is not None
        assert isinstance(frames.Decoder[FromChild](FromChild).decode(frame[0]), Beat)
    answered_by = running.call()
    answered(waiting)
    answered(answered_by)


def test_draining_lets_a_wait_end(run: Callable[[Engine], Running]) -> None:
    engine = Pairs(0.2)
    running = run(engine)
    waiting = running.call()
    inbox = frames.Inbox(running.control)
    while not engine.steps:  # until the call is in the queue: the loop beats meanwhile
        inbox.next()
    frames.send(running.control, Drain(60.0))
    answered(waiting)
    running.thread.join(DEADLINE)
    assert not running.thread.is_alive()
    assert engine.runs == [1]
