"""ModelStreamInfer on its lane: read ahead, answered in order, and nothing lost when requests are of many kinds."""

import queue
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from express_rig import DIE, FAIL, HOLD, PATIENCE, request, wait_for
from express_rig import ExpressRig as Rig

from appliance import limits
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.serve.express import grpc_core


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig() as rig:
        yield rig


def streamed(rig: Rig, requests: Any, timeout: float = PATIENCE) -> Any:
    return pb_grpc.GRPCInferenceServiceStub(rig.channel).ModelStreamInfer(requests, timeout=timeout)


def text(prompt: str, number: int) -> pb.ModelInferRequest:
    asked = pb.ModelInferRequest(model_name="text", id=str(number))
    asked.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(prompt.encode())
    asked.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(False)
    return asked


def with_parameter(number: int) -> pb.ModelInferRequest:
    asked = request(0, number)
    asked.parameters["mine"].string_param = "x"
    return asked


def unknown(number: int) -> pb.ModelInferRequest:
    asked = request(0, number)
    asked.model_name = "nobody"
    return asked


def test_all_kinds_are_answered_in_order(rig: Rig) -> None:
    kinds = [lambda n: request(0, n), with_parameter, unknown, lambda n: text("a b", n), lambda n: request(FAIL, n)]
    answers = list(streamed(rig, iter([kinds[n % len(kinds)](n) for n in range(50)])))
    assert [a.infer_response.id for a in answers] == [str(n) for n in range(50)]
    for number, answer in enumerate(answers):
        failed = number % len(kinds) in (2, 4)
        assert bool(answer.error_message) == failed, (number, answer.error_message)
        assert answer.infer_response.parameters["triton_final_response"].bool_param
    wait_for(lambda: rig.gate.calls == 0)
    assert rig.router.in_flight == 0


def test_requests_are_read_ahead_but_not_without_end() -> None:
    with Rig(threads=4 * limits.stream_requests_ahead_max) as rig:
        answers = streamed(rig, iter([request(HOLD, n) for n in range(200)]))
        wait_for(lambda: rig.engine.held == limits.stream_requests_ahead_max)
        rig.engine.let_go.set()
        assert [a.infer_response.id for a in answers] == [str(n) for n in range(200)]


def test_the_first_answers_may_be_there_all_at_once(rig: Rig) -> None:
    """gRPC ends the batch that begins a stream only when it was written, so that must not wait for what comes behind."""
    answers = streamed(rig, iter([request(HOLD, 0), unknown(1), unknown(2)]))
    wait_for(lambda: rig.engine.held == 1)
    wait_for(lambda: rig.router.in_flight == 1)
    rig.engine.let_go.set()
    assert [bool(a.error_message) for a in answers] == [False, True, True]


@pytest.mark.parametrize(
    ("first", "more", "flags"), [(True, True, 0), (False, True, 1), (False, False, 0), (True, False, 0)]
)
def test_only_answers_behind_the_first_may_wait_for_company(
    monkeypatch: pytest.MonkeyPatch, first: bool, more: bool, flags: int
) -> None:
    """With the hint on the first, the call hung where nothing else made gRPC write."""
    seen: list[int] = []
    real = grpc_core._core.SendMessageOperation
    rpc = SimpleNamespace(start_server_batch=lambda *_: None)

    class Core:
        SendInitialMetadataOperation = grpc_core._core.SendInitialMetadataOperation

        @staticmethod
        def SendMessageOperation(message: bytes, given: int) -> object:  # noqa: N802 - gRPC's
            seen.append(given)
            return real(message, given)

    monkeypatch.setattr(grpc_core, "_core", Core)
    grpc_core.send_message(rpc, b"x", first, more, lambda _: None)
    assert seen == [flags]


def test_an_answer_does_not_wait_for_the_next_request(rig: Rig) -> None:
    asked: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    answers = streamed(rig, iter(asked.get, None))
    for number in range(5):
        asked.put(request(0, number))
        assert next(answers).infer_response.id == str(number)
    asked.put(None)
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def test_a_dead_engine_costs_only_its_requests(rig: Rig) -> None:
    answers = list(streamed(rig, iter([request(0, 0), request(DIE, 1), request(0, 2)])))
    assert [bool(a.error_message) for a in answers] == [False, True, False]
    assert "died" in answers[1].error_message


def test_a_client_that_leaves_frees_everything(rig: Rig) -> None:
    answers = streamed(rig, iter([request(HOLD, n) for n in range(8)]))
    wait_for(lambda: rig.engine.held == 8)
    answers.cancel()
    wait_for(lambda: rig.engine.held == 0 and rig.router.in_flight == 0 and rig.gate.calls == 0)


def test_a_client_that_reads_slowly_stops_the_reading(rig: Rig) -> None:
    """Large answers fill HTTP/2's window; nothing more is read than what the bounds allow, and all comes in the end."""
    sent = []

    def requests() -> Iterator[pb.ModelInferRequest]:
        for number in range(400):
            asked = request(0, number)
            asked.inputs[0].shape[0] = 2_000
            asked.raw_input_contents[0] = bytes(24_000)
            sent.append(number)
            yield asked

    answers = streamed(rig, requests())
    assert next(answers).infer_response.id == "0"
    assert len(list(answers)) == 399
    assert len(sent) == 400


def test_bytes_that_are_no_request_end_the_stream(rig: Rig) -> None:
    call = rig.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    answers = call(iter([request(0, 0).SerializeToString(), b"\xff\xff"]), timeout=PATIENCE)
    with pytest.raises(grpc.RpcError) as caught:
        list(answers)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    wait_for(lambda: rig.gate.calls == 0)


def test_streams_are_bounded_and_refused_when_draining(rig: Rig) -> None:
    hold: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    opened = [streamed(rig, iter(hold.get, None)) for _ in range(rig.threads // 2)]
    wait_for(lambda: rig.gate.calls == len(opened))
    with pytest.raises(grpc.RpcError) as caught:
        next(streamed(rig, iter([request(0)])))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for stream in opened:
        stream.cancel()
        hold.put(None)
    wait_for(lambda: rig.gate.calls == 0)
    rig.gate.close()
    with pytest.raises(grpc.RpcError) as caught:
        next(streamed(rig, iter([request(0)])))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_an_empty_stream_ends_well(rig: Rig) -> None:
    answers = streamed(rig, iter([]))
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK
    wait_for(lambda: rig.gate.calls == 0)
