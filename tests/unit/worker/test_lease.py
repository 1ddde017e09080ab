"""A call that no engine can have run is sent again, to whom the routing table then names; any other one never is."""

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance import frames
from appliance.answers import GenerateDone, InferDone, TextPiece
from appliance.calls import AnyCall, GenerateCall, InferCall, ShareCall
from appliance.control import Route, RouteTable
from appliance.errors import Unavailable
from appliance.tensor_heads import TensorHead
from appliance.types import ModelState
from appliance.worker.lease import Lease
from appliance.worker.router import Router

READY = ModelState.READY
DEADLINE = 10.0
DATA = b"\0\0\x80?"
INFER = InferCall(tensors=(TensorHead("x", "FP32", (1,), 4),))
Act = Callable[[socket.socket], None]


class Engine:
    """A listener whose n-th connection is treated by the n-th act, in a thread."""

    def __init__(self, path: Path, *acts: Act) -> None:
        self.path = str(path)
        self.came = 0
        self._acts = acts
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(16)
        self._listener.settimeout(DEADLINE)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        for act in self._acts:
            connection = self._listener.accept()[0]
            self.came += 1
            with connection:
                act(connection)

    def close(self) -> None:
        self.thread.join(DEADLINE)
        self._listener.close()


def greeted(connection: socket.socket) -> None:
    """Reads what a connection begins with, and not a byte of the request behind it."""
    prefix = connection.recv(frames.PREFIX.size, socket.MSG_WAITALL)
    header, body = frames.parse_prefix(prefix)
    greeting = frames.Decoder(AnyCall).decode(connection.recv(header + body, socket.MSG_WAITALL))
    assert isinstance(greeting, ShareCall)


def unread(connection: socket.socket) -> None:
    """Ends when the request has come, without having read it."""
    greeted(connection)
    connection.recv(1, socket.MSG_PEEK)


def half_read(connection: socket.socket) -> None:
    greeted(connection)
    connection.recv(3, socket.MSG_WAITALL)


def read(connection: socket.socket) -> None:
    greeted(connection)
    frames.Inbox(connection).next()


def answer(connection: socket.socket) -> None:
    read(connection)
    frames.send(connection, InferDone(tensors=INFER.tensors), [DATA])


def talk(connection: socket.socket) -> None:
    read(connection)
    frames.send(connection, TextPiece("a"))
    frames.send(connection, GenerateDone())


def talk_and_die(connection: socket.socket) -> None:
    read(connection)
    frames.send(connection, TextPiece("a"))


class Rig:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.engines: list[Engine] = []
        self.router = Router(10)
        self.epoch = 0

    def engine(self, *acts: Act) -> Engine:
        self.engines.append(Engine(self._folder / f"{len(self.engines)}.sock", *acts))
        return self.engines[-1]

    def route(self, *engines: Engine, state: ModelState = READY, reason: str = "") -> None:
        first, *more = [engine.path for engine in engines] or [""]
        self.epoch += 1
        row = Route("m", "1", state, True, first, None, reason, more_sockets=tuple(more))
        self.router.apply(RouteTable(self.epoch, (row,)))

    def exchange(self, call: AnyCall = INFER, sticky: str = "") -> bytes:
        with Lease(self.router, "m", sticky=sticky) as lease:
            return bytes(lease.exchange(call, [DATA])[1])


@pytest.fixture
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory(prefix="ia-") as folder:
        made = Rig(Path(folder))
        yield made
        for engine in made.engines:
            engine.close()
        assert made.router.in_flight == 0


@pytest.mark.parametrize("end", [unread, half_read])
def test_a_call_that_was_not_read_whole_is_sent_again(rig: Rig, end: Act) -> None:
    engine = rig.engine(end, end, answer)
    rig.route(engine)
    assert rig.exchange() == DATA
    assert engine.came == 3
    assert rig.router.take_counts() == ({}, {})


def test_a_call_that_was_read_is_never_sent_again(rig: Rig) -> None:
    engine = rig.engine(read)
    rig.route(engine)
    with pytest.raises(Unavailable) as caught:
        rig.exchange()
    assert caught.value.reason == "ENGINE_DIED"
    assert engine.came == 1
    assert rig.router.take_counts() == ({}, {"m:1": 1})


def test_three_times_is_no_race_any_more(rig: Rig) -> None:
    rig.route(rig.engine(unread, unread, unread))
    with pytest.raises(Unavailable) as caught:
        rig.exchange()
    assert caught.value.reason == "ENGINE_DOWN"


@pytest.mark.parametrize("sticky", ["", "client\0seven"])
def test_it_goes_to_another_instance_when_its_own_has_left_the_table(rig: Rig, sticky: str) -> None:
    spare = rig.engine(answer)

    def leave(connection: socket.socket) -> None:
        rig.route(spare)
        unread(connection)

    rig.route(rig.engine(leave))
    assert rig.exchange(sticky=sticky) == DATA
    assert spare.came == 1


def test_it_is_told_why_when_nobody_takes_calls_any_more(rig: Rig) -> None:
    def leave(connection: socket.socket) -> None:
        rig.route(state=ModelState.QUARANTINED, reason="signal 9")
        unread(connection)

    rig.route(rig.engine(leave))
    with pytest.raises(Unavailable, match="kept dying: signal 9"):
        rig.exchange()


def test_a_stream_is_sent_again_before_its_first_piece_only(rig: Rig) -> None:
    rig.route(rig.engine(unread, talk))
    with Lease(rig.router, "m") as lease:
        assert [type(got) for got, _ in lease.stream(GenerateCall(prompt="x"))] == [TextPiece, GenerateDone]
    rig.route(rig.engine(talk_and_die))
    with Lease(rig.router, "m") as lease:
        pieces = lease.stream(GenerateCall(prompt="x"))
        assert next(pieces)[0].text == "a"
        with pytest.raises(Unavailable) as caught:
            next(pieces)
        assert caught.value.reason == "ENGINE_DIED"
