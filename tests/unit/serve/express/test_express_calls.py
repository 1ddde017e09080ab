"""Small unary calls on the express lane, through real gRPC, with an engine that obeys the first number of its input."""

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from engine_simulator import ECHO, EngineSimulator
from express_rig import DIE, FAIL, HOLD, PATIENCE, SWAP, request, wait_for
from express_rig import ExpressRig as Rig

from appliance import frames
from appliance.answers import InferDone
from appliance.control import Route
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.serve.express import grpc_core
from appliance.tensor_heads import TensorHead
from appliance.types import ModelState


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


@pytest.fixture(scope="module")
def stub(rig: Rig) -> pb_grpc.GRPCInferenceServiceStub:
    return pb_grpc.GRPCInferenceServiceStub(rig.channel)


def failure(call: Any, *arguments: Any, timeout: float = PATIENCE) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=timeout)
    reason = dict(caught.value.trailing_metadata() or ()).get("appliance-reason", "")
    return caught.value.code().name, reason


def test_this_grpcio_is_known() -> None:
    assert grpc_core.supported(), "calls would take a thread each: adapt serve/express/grpc_core.py to this grpcio"


def test_the_loop_rests_before_it_looks_at_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server's loop, by what the front-end says of its core."""
    made: list[Any] = []

    class Counted:
        def __init__(self, contended: Any) -> None:
            self.contended, self.count = contended, 0
            made.append(self)

        def __call__(self) -> None:
            self.count += 1

    monkeypatch.setattr("appliance.serve.server.Rest", Counted)
    with Rig() as own:
        pb_grpc.GRPCInferenceServiceStub(own.channel).ModelInfer(request(0.0), timeout=PATIENCE)
        tcp, unix = made
        assert tcp.count >= 2  # a call's headers, its message
        assert tcp.contended is unix.contended is own.servers._contended


def test_small_calls_take_no_thread(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    before = threading.active_count()
    answers = [stub.ModelInfer.future(request(HOLD, number), timeout=PATIENCE) for number in range(20)]
    wait_for(lambda: rig.engine.held == 20)
    named = [t.name for t in threading.enumerate() if t.name.startswith(("call", "express_", "stream"))]
    assert len(named) <= 1, "only the front-end's own sign of life has a thread of the pool"
    rig.engine.let_go.set()
    try:
        for number, answer in enumerate(answers):
            result = answer.result()
            assert struct.unpack("<3f", result.raw_output_contents[0])[1] == number
            assert (result.model_name, result.model_version, result.id) == ("echo", "1.0.0", str(number))
    finally:
        rig.engine.let_go.clear()
    assert threading.active_count() <= before + 20 + 2  # the simulator's own, one for each connection


def test_connections_are_used_again(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    stub.ModelInfer(request(0, 1), timeout=PATIENCE)
    before = rig.engine.connections
    for number in range(10):
        stub.ModelInfer(request(0, number), timeout=PATIENCE)
    assert rig.engine.connections == before


def test_engine_errors_keep_their_status(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    assert failure(stub.ModelInfer, request(FAIL)) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")


def test_an_engine_that_dies_costs_only_its_call(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    rig.router.take_counts()
    assert failure(stub.ModelInfer, request(DIE)) == ("UNAVAILABLE", "ENGINE_DIED")
    assert rig.router.take_counts()[1] == {"echo:1.0.0": 1}
    assert stub.ModelInfer(request(0, 5), timeout=PATIENCE).id == "5"
    assert rig.router.in_flight == 0


def test_an_engine_that_is_not_there(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    missing = pb.ModelInferRequest()
    missing.CopyFrom(request(0))
    missing.model_name = "gone"
    rig.apply_all(Route("gone", "1.0.0", ModelState.READY, True, str(rig.folder / "gone.sock"), ECHO))
    assert failure(stub.ModelInfer, missing) == ("UNAVAILABLE", "ENGINE_DOWN")
    wait_for(lambda: rig.router.in_flight == 0 and rig.gate.calls == 0)


def test_an_engine_that_was_replaced_while_idle(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    first = EngineSimulator(str(rig.folder / "short.sock"))
    rig.apply_all(Route("short", "1.0.0", ModelState.READY, True, first.path, ECHO))
    wanted = request(0, 3)
    wanted.model_name = "short"
    stub.ModelInfer(wanted, timeout=PATIENCE)
    first.close()
    (rig.folder / "short.sock").unlink()
    second = EngineSimulator(str(rig.folder / "short.sock"))
    try:
        assert stub.ModelInfer(wanted, timeout=PATIENCE).id == "3"
    finally:
        second.close()


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_a_client_that_leaves_frees_the_engine(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub, how: str) -> None:
    rig.engine.left.clear()
    call = stub.ModelInfer.future(request(HOLD), timeout=0.3 if how == "deadline" else PATIENCE)
    wait_for(lambda: rig.engine.held >= 1)
    if how == "cancel":
        call.cancel()
    assert rig.engine.left.wait(PATIENCE), "closing the connection is what cancels the engine's work"
    wait_for(lambda: rig.router.in_flight == 0 and rig.gate.calls == 0)


def test_bad_requests_are_told_and_counted(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    rig.router.take_counts()
    bad = request(0)
    bad.inputs[0].name = "z"
    assert failure(stub.ModelInfer, bad) == ("INVALID_ARGUMENT", "INPUT_UNKNOWN")
    assert rig.router.take_counts()[0] == {"echo:1.0.0": 1}
    unknown = request(0)
    unknown.model_name = "nobody"
    assert failure(stub.ModelInfer, unknown) == ("NOT_FOUND", "MODEL_UNKNOWN")
    raw = rig.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    assert failure(raw, b"\xff\xff\xff") == ("INVALID_ARGUMENT", "MALFORMED")
    wait_for(lambda: rig.gate.calls == 0)


def test_parameters_and_large_tensors_take_the_other_way(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    with_parameter = request(0, 4)
    with_parameter.parameters["mine"].string_param = "x"
    assert stub.ModelInfer(with_parameter, timeout=PATIENCE).id == "4"
    rows = 20_000
    large = request(0)
    large.inputs[0].shape[0] = rows
    large.raw_input_contents[0] = struct.pack("<f", 0.0) * 3 * rows
    assert len(stub.ModelInfer(large, timeout=PATIENCE).raw_output_contents[0]) == 12 * rows


def test_a_model_that_streams_refuses(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    text = pb.ModelInferRequest(model_name="text")
    text.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"x")
    assert failure(stub.ModelInfer, text) == ("UNIMPLEMENTED", "DECOUPLED")


def test_an_engine_that_answers_nonsense(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    """Heads and bytes that don't go together are the engine's bug: INTERNAL, and the next call is served."""
    assert failure(stub.ModelInfer, request(SWAP))[0] == "INTERNAL"
    assert stub.ModelInfer(request(0, 6), timeout=PATIENCE).id == "6"


def test_calls_without_a_message_take_no_thread_and_no_place(rig: Rig) -> None:
    """More than there are threads: once so many kept everybody else out."""
    opened = [rig.headers_only() for _ in range(rig.threads + 10)]
    try:
        with grpc.insecure_channel(rig.address) as channel:
            answer = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request(0, 8), timeout=PATIENCE)
        assert answer.id == "8"
    finally:
        for connection in opened:
            connection.close()


def test_a_closed_gate_refuses_and_stop_ends_what_runs() -> None:
    with Rig() as rig:
        stub = pb_grpc.GRPCInferenceServiceStub(rig.channel)
        running = stub.ModelInfer.future(request(HOLD, 1), timeout=PATIENCE)
        wait_for(lambda: rig.engine.held == 1)
        rig.gate.close()
        assert failure(stub.ModelInfer, request(0)) == ("UNAVAILABLE", "DRAINING")
        rig.engine.let_go.set()
        assert running.result().id == "1"
        assert rig.gate.wait_empty(PATIENCE)
        began = time.monotonic()
        rig.servers.stop(0.5)
        assert time.monotonic() - began < PATIENCE


def test_without_grpcios_inside_every_call_has_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_core, "supported", lambda: False)
    with Rig() as rig:
        assert pb_grpc.GRPCInferenceServiceStub(rig.channel).ModelInfer(request(0, 2), timeout=PATIENCE).id == "2"


def test_a_call_that_no_engine_has_read_is_sent_again(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    """An engine that dies with a call unread in its socket resets the connection (unix(7))."""
    path = str(rig.folder / "deaf.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        rig.apply_all(Route("deaf", "1.0.0", ModelState.READY, True, path, ECHO))
        rig.router.take_counts()
        wanted = request(0, 9)
        wanted.model_name = "deaf"
        answer = stub.ModelInfer.future(wanted, timeout=PATIENCE)
        deaf, _ = listener.accept()
        assert select.select([deaf], [], [], PATIENCE)[0], "no call came"
        deaf.close()
        again, _ = listener.accept()
        with again:
            assert select.select([again], [], [], PATIENCE)[0], "it was not sent again"
            inbox = frames.Inbox(again)
            frame = inbox.next()
            assert frame is not None
            frames.send(again, InferDone((TensorHead("x", "FP32", (1, 3), 12),)), [bytes(frame[1])])
            assert answer.result().id == "9"
    assert rig.router.take_counts()[1] == {}, "it was not lost: nobody had it"
