"""The real loop and memory that is handed over to it: in order, out of order, and by a client that spoils it."""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from shared_files import shared_file

from appliance import frames
from appliance.answers import AnyAnswer, Failure, InferDone
from appliance.calls import AnyCall, InferCall, OutputWanted, ShareCall, StatsCall
from appliance.engine.base import Engine, Reply
from appliance.errors import ApplianceError
from appliance.tensor_heads import TensorHead
from appliance.types import Buffer, EngineStats, ModelKind, ModelSignature, Tensor
from appliance.worker.descriptors import send_with
from appliance.worker.engine_loop import EngineLoop

DEADLINE = 10.0
HELLO = ShareCall(region=-1)


class Echo(Engine):
    """Keeps what it was asked; gives its tensors back."""

    def __init__(self) -> None:
        self.calls: list[InferCall] = []
        self._queue: list[tuple[list[Tensor], Reply]] = []
        # Outputs are put in their places before the answer is given.
        self.early = False

    def signature(self) -> ModelSignature:
        return ModelSignature(ModelKind.TENSOR, "test", (), ())

    def warm_up(self) -> None: ...

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:
        assert isinstance(call, InferCall)
        self.calls.append(call)
        self._queue.append((tensors, reply))

    def has_work(self) -> bool:
        return bool(self._queue)

    def step(self) -> None:
        tensors, reply = self._queue.pop(0)
        heads = tuple(TensorHead(t.name, t.datatype, t.shape, len(t.data)) for t in tensors)
        data: Sequence[Buffer] = [t.data for t in tensors]
        if self.early:
            try:
                heads, data = reply.place(heads, data)
            except ApplianceError as error:
                reply.fail(error)
                return
        reply.finish(InferDone(heads), data)

    def stats(self) -> EngineStats:
        return EngineStats()


class Client:
    """A connection to a loop of its own."""

    def __init__(self, path: Path) -> None:
        self.engine = Echo()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(4)
        self.control, theirs = socket.socketpair()
        loop = EngineLoop(self.engine, listener, theirs, frames.Inbox(theirs))
        self.thread = threading.Thread(target=loop.run, daemon=True)
        self.thread.start()
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(str(path))
        self._inbox = frames.Inbox(self.sock)

    def answer(self) -> tuple[AnyAnswer, bytes]:
        frame = self._inbox.next()
        assert frame is not None
        return frames.Decoder[AnyAnswer](AnyAnswer).decode(frame[0]), bytes(frame[1])

    def is_closed(self) -> bool:
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path / "engine.sock")
    yield made
    made.control.close()
    made.sock.close()
    made.thread.join(DEADLINE)
    assert not made.thread.is_alive()


@pytest.mark.parametrize("early", [False, True])
def test_a_tensor_in_a_region_and_an_answer_in_it(client: Client, early: bool) -> None:
    client.engine.early = early
    with shared_file(b"0123456789") as file:
        frames.send(client.sock, HELLO)
        for _ in range(2):
            if not client.engine.calls:
                send_with(client.sock, ShareCall(region=5, nbytes=10, name="r"), file.fd)
            call = InferCall(
                tensors=(TensorHead("x", "UINT8", (4,), 4, 5, 1),), outputs=(OutputWanted("x", 0, 5, 6, 4),)
            )
            frames.send(client.sock, call)
            answer, body = client.answer()
            assert answer == InferDone((TensorHead("x", "UINT8", (4,), 4, 5, 6),))
            assert body == b""
        assert file.read(10) == b"0123451234"
        # Engines hear nothing of where tensors are.
        assert client.engine.calls[0].tensors == (TensorHead("x", "UINT8", (4,), 4),)
        assert client.engine.calls[0].outputs == (OutputWanted("x"),)


@pytest.mark.parametrize(("output", "early"), [(False, False), (True, False), (True, True)])
def test_a_region_that_shrank_fails_the_call_and_nothing_else(client: Client, output: bool, early: bool) -> None:
    client.engine.early = early
    with shared_file(b"0123456789") as file:
        frames.send(client.sock, HELLO)
        send_with(client.sock, ShareCall(region=5, nbytes=10, name="images"), file.fd)
        file.shrink(5)
        if output:
            head, wanted = TensorHead("x", "UINT8", (2,), 2, 5, 0), (OutputWanted("x", 0, 5, 4, 2),)
        else:
            head, wanted = TensorHead("x", "UINT8", (2,), 2, 5, 4), ()
        frames.send(client.sock, InferCall(tensors=(head,), outputs=wanted))
        answer, _ = client.answer()
        assert isinstance(answer, Failure)
        assert (answer.code, answer.reason) == ("FAILED_PRECONDITION", "SHARED_MEMORY_SHRUNK")
        frames.send(client.sock, InferCall(tensors=(TensorHead("x", "UINT8", (2,), 2, 5, 0),)))
        assert client.answer()[1] == b"01"


def test_memory_only_on_connections_that_began_so(client: Client) -> None:
    frames.send(client.sock, StatsCall())
    client.answer()
    frames.send(client.sock, HELLO)
    assert client.is_closed()


def test_a_descriptor_that_nobody_announced(client: Client) -> None:
    frames.send(client.sock, HELLO)
    before = len(os.listdir("/proc/self/fd"))
    send_with(client.sock, StatsCall(), 0)
    assert client.is_closed()
    # The loop's end of the connection is gone as well: it runs in this process.
    assert len(os.listdir("/proc/self/fd")) <= before


@pytest.mark.parametrize(
    "call",
    [
        ShareCall(region=0, nbytes=10),  # no memfd
        ShareCall(region=-2, nbytes=10),
        InferCall(tensors=(TensorHead("x", "UINT8", (4,), 4, 6, 1),)),
        InferCall(tensors=(TensorHead("x", "UINT8", (4,), 4, 5, 8),)),
        InferCall(tensors=(TensorHead("x", "UINT8", (4,), 4, 0, 0),)),
        InferCall(outputs=(OutputWanted("x", 0, 6, 0, 1),)),
    ],
)
def test_what_no_front_end_says_costs_its_connection(client: Client, call: AnyCall) -> None:
    with shared_file(b"0123456789") as file:
        frames.send(client.sock, HELLO)
        send_with(client.sock, ShareCall(region=5, nbytes=10, name="r"), file.fd)
        if isinstance(call, ShareCall):
            send_with(client.sock, call, file.fd)
        else:
            frames.send(client.sock, call)
        assert client.is_closed()
    assert client.thread.is_alive()
