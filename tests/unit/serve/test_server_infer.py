"""ModelInfer and ModelStreamInfer through real gRPC, with simulated engines."""

import queue
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from serve_rig import Rig

from appliance.calls import Constraint, GenerateCall, InferCall, Sampling
from appliance.config import ServerConfig
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc

PATIENCE = 20


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(ServerConfig(address="127.0.0.1:0", max_message_mib=4), threads=96) as rig:
        yield rig


@pytest.fixture(scope="module")
def stub(rig: Rig) -> pb_grpc.GRPCInferenceServiceStub:
    return pb_grpc.GRPCInferenceServiceStub(rig.channel)


def echo(rows: int = 1, **parameters: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="echo", id="7")
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 3])
    request.raw_input_contents.append(struct.pack(f"<{3 * rows}f", *range(3 * rows)))
    for key, value in parameters.items():
        request.parameters[key].string_param = value
    return request


def text(prompt: str, *, stream: bool = True, empty_final: bool = False) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="text", id="t")
    request.inputs.add(name="text_input", datatype="BYTES", shape=[1]).contents.bytes_contents.append(prompt.encode())
    if not stream:
        request.inputs.add(name="stream", datatype="BOOL", shape=[1]).contents.bool_contents.append(False)
    if empty_final:
        request.parameters["triton_enable_empty_final_response"].bool_param = True
    return request


def failure(call: Any, *arguments: Any, **options: Any) -> tuple[str, str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, timeout=options.pop("timeout", PATIENCE), **options)
    error = caught.value
    trailers = dict(error.trailing_metadata() or ())
    return error.code().name, error.details(), trailers.get("appliance-reason", "")


# --- unary -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 1000, 20_000], ids=["empty", "one", "12 kB", "240 kB"])
def test_raw_tensor_comes_back(stub: pb_grpc.GRPCInferenceServiceStub, rows: int) -> None:
    request = echo(rows)
    response = stub.ModelInfer(request, timeout=PATIENCE)
    assert response.raw_output_contents == request.raw_input_contents
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [("x", "FP32", [rows, 3])]
    assert (response.model_name, response.model_version, response.id) == ("echo", "1.0.0", "7")
    assert not response.outputs[0].HasField("contents")


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed(stub: pb_grpc.GRPCInferenceServiceStub, compression: grpc.Compression) -> None:
    request = echo(20_000)
    response = stub.ModelInfer(request, timeout=PATIENCE, compression=compression)
    assert response.raw_output_contents == request.raw_input_contents


def test_subset_of_outputs_and_version(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    request = echo()
    request.inputs.add(name="s", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(b"\x01\0\0\0a")
    request.outputs.add(name="s")
    request.model_version = "1.0.0"
    response = stub.ModelInfer(request, timeout=PATIENCE)
    assert [o.name for o in response.outputs] == ["s"]
    assert list(response.raw_output_contents) == [b"\x01\0\0\0a"]


def test_options_reach_the_engine(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    request = echo(mine="x")
    request.parameters["priority"].uint64_param = 3
    stub.ModelInfer(request, timeout=PATIENCE)
    call = rig.echo.calls[-1]
    assert isinstance(call, InferCall)
    assert call.priority == 3
    assert call.deadline_ns > 0
    assert call.parameters == {"mine": "x"}


def changed(**fields: str) -> pb.ModelInferRequest:
    request = echo()
    for key, value in fields.items():
        setattr(request, key, value)
    return request


def with_output(name: str) -> pb.ModelInferRequest:
    request = echo()
    request.outputs.add(name=name)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "words", "reason"),
    [
        (changed(model_name="nope"), "NOT_FOUND", "Request for unknown model: 'nope' is not found", "MODEL_UNKNOWN"),
        (changed(model_version="9"), "NOT_FOUND", "version '9' is not found; there is 0.9.0, 1.0.0", "VERSION_UNKNOWN"),
        (changed(model_version="0.9.0"), "UNAVAILABLE", "is stored but not loaded", "MODEL_NOT_READY"),
        (changed(model_name="broken"), "UNAVAILABLE", "kept dying: it died 6 times", "MODEL_NOT_READY"),
        (changed(model_name="coming"), "UNAVAILABLE", "is being loaded", "MODEL_NOT_READY"),
        (
            changed(model_name="text"),
            "UNIMPLEMENTED",
            "doesn't support models with decoupled transaction policy",
            "DECOUPLED",
        ),
        (changed(id="x" * 257), "INVALID_ARGUMENT", "request id has 257", "REQUEST_ID"),
        (with_output("q"), "INVALID_ARGUMENT", "no output 'q'", "OUTPUT_UNKNOWN"),
        (echo(triton_x="1"), "INVALID_ARGUMENT", "'triton_x' is not known", "PARAMETER_UNKNOWN"),
        (echo(timeout="1"), "INVALID_ARGUMENT", "'timeout' must be", "PARAMETER"),
        (echo(do="fail"), "RESOURCE_EXHAUSTED", "the queue is full", "QUEUE_FULL"),
        (echo(do="die"), "UNAVAILABLE", "died while it worked on this request", "ENGINE_DIED"),
        (pb.ModelInferRequest(model_name="echo"), "INVALID_ARGUMENT", "missing 'x'", "INPUT_MISSING"),
        (pb.ModelInferRequest(), "NOT_FOUND", "unknown model", "MODEL_UNKNOWN"),
    ],
)
def test_refused(
    stub: pb_grpc.GRPCInferenceServiceStub, request_: pb.ModelInferRequest, code: str, words: str, reason: str
) -> None:
    got = failure(stub.ModelInfer, request_)
    assert (got[0], got[2]) == (code, reason)
    assert words in got[1]
    assert stub.ModelInfer(echo(), timeout=PATIENCE).id == "7"


@pytest.mark.parametrize("data", [b"\x0a\x02\xff\xfe", b"\xff\xff", b"\x0a\x7fab", b"\x0a\x02\xff\xfe" + bytes(40_000)])
def test_what_is_not_a_request(rig: Rig, data: bytes) -> None:
    raw = rig.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    code, words, reason = failure(raw, data)
    assert (code, reason) == ("INVALID_ARGUMENT", "MALFORMED")
    assert "not a valid ModelInferRequest" in words


def test_message_over_the_limit(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    code, words, _ = failure(stub.ModelInfer, echo(400_000))
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in words


def test_message_over_the_limit_once_it_is_unpacked(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    request = echo()
    request.raw_input_contents[0] = bytes(8_000_000)
    code, _, _ = failure(stub.ModelInfer, request, compression=grpc.Compression.Gzip)
    assert code == "RESOURCE_EXHAUSTED"


def test_a_bug_shows_nothing_but_an_id(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub, monkeypatch: Any) -> None:
    def broken(*_: object) -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr(rig.router, "find", broken)
    code, words, reason = failure(stub.ModelMetadata, pb.ModelMetadataRequest(name="echo"))
    assert (code, reason) == ("INTERNAL", "INTERNAL")
    assert words.startswith("internal error; see the daemon's log, request id ")
    assert "secret" not in words


# --- deadlines and cancellation --------------------------------------------------------------------------------------


def test_deadline_ends_the_engines_work(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    rig.echo.cancelled.clear()
    code, _, _ = failure(stub.ModelInfer, echo(do="wait"), timeout=0.3)
    assert code == "DEADLINE_EXCEEDED"
    assert rig.echo.cancelled.wait(PATIENCE)


def test_cancelling_ends_the_engines_work(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    rig.echo.cancelled.clear()
    rig.echo.arrived.clear()
    future = stub.ModelInfer.future(echo(do="wait"), timeout=PATIENCE)
    assert rig.echo.arrived.wait(PATIENCE)
    future.cancel()
    assert rig.echo.cancelled.wait(PATIENCE)


def test_a_client_that_vanishes_in_a_stream_ends_the_engines_work(rig: Rig) -> None:
    rig.text.cancelled.clear()
    with grpc.insecure_channel(rig.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        requests: queue.SimpleQueue[pb.ModelInferRequest] = queue.SimpleQueue()
        requests.put(text("one wait"))
        responses = pb_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter(requests.get, None))
        assert next(responses).infer_response.raw_output_contents[0] == b"\x03\0\0\0one"
    assert rig.text.cancelled.wait(PATIENCE)
    assert rig.gate.wait_empty(PATIENCE) or rig.gate.calls == 0


def test_200_clients_at_once(rig: Rig) -> None:
    """More than there are threads: each gets its answer or is told to come back, and none waits for ever."""

    def one(number: int) -> str:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(rig.address, options=options) as channel:
            try:
                response = pb_grpc.GRPCInferenceServiceStub(channel).ModelInfer(echo(1 + number % 7), timeout=60)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK" if len(response.raw_output_contents[0]) == 12 * (1 + number % 7) else "WRONG"

    with ThreadPoolExecutor(200) as pool:
        outcomes = list(pool.map(one, range(200)))
    assert set(outcomes) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert outcomes.count("OK") >= 100
    assert rig.router.in_flight == 0


def test_one_model_cannot_take_all_threads(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    bound = 48
    futures = [stub.ModelInfer.future(echo(do="wait"), timeout=PATIENCE) for _ in range(bound)]
    try:
        deadline = threading.Event()
        for _ in range(200):
            if rig.router.in_flight == bound:
                break
            deadline.wait(0.05)
        assert rig.router.in_flight == bound
        code, words, reason = failure(stub.ModelInfer, echo())
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert "48 calls in flight" in words
        assert list(stub.ModelStreamInfer(iter([text("still here")]), timeout=PATIENCE))
    finally:
        for future in futures:
            future.cancel()
    assert rig.gate.wait_empty(PATIENCE)


# --- streams ---------------------------------------------------------------------------------------------------------


def summary(response: pb.ModelStreamInferResponse) -> tuple[str, str | None, bool]:
    inner = response.infer_response
    raw = inner.raw_output_contents[0][4:].decode() if inner.raw_output_contents else None
    return response.error_message, raw, inner.parameters["triton_final_response"].bool_param


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (text("a b"), [("", "a", False), ("", "b", False), ("", "", True)]),
        (text("a b", empty_final=True), [("", "a", False), ("", "b", False), ("", None, True)]),
        (text("a b", stream=False), [("", "ab", True)]),
        (text("a b", stream=False, empty_final=True), [("", "ab", False), ("", None, True)]),
    ],
)
def test_text_stream(
    stub: pb_grpc.GRPCInferenceServiceStub, request_: pb.ModelInferRequest, expected: list[Any]
) -> None:
    responses = list(stub.ModelStreamInfer(iter([request_]), timeout=PATIENCE))
    assert [summary(r) for r in responses] == expected
    assert {(r.infer_response.id, r.infer_response.model_version) for r in responses} == {("t", "1.0.0")}
    last = responses[-1].infer_response.parameters
    assert (last["finish_reason"].string_param, last["completion_tokens"].int64_param) == ("stop", 2)


def test_an_error_leaves_the_stream_open_and_models_mix(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    bad = echo()
    bad.inputs[0].shape[1] = 4
    requests = [echo(), bad, text("fail"), text("a", stream=False), echo(do="die"), echo(20_000)]
    responses = list(stub.ModelStreamInfer(iter(requests), timeout=PATIENCE))
    errors = [r.error_message for r in responses]
    assert [bool(e) for e in errors] == [False, True, True, False, True, False]
    assert "has shape [1, 4], expected [-1, 3]" in errors[1]
    assert "the prompt has 200 tokens" in errors[2]
    assert "died while" in errors[4]
    assert all(r.infer_response.parameters["triton_final_response"].bool_param for r in responses)
    assert responses[1].infer_response.id == "7"
    assert len(responses[5].infer_response.raw_output_contents[0]) == 240_000


def test_requests_are_answered_one_by_one_in_order(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    responses = stub.ModelStreamInfer(iter(requests.get, None), timeout=PATIENCE)
    for rows in range(1, 20):
        requests.put(echo(rows))
        assert len(next(responses).infer_response.raw_output_contents[0]) == 12 * rows
    requests.put(None)
    assert list(responses) == []


def test_a_malformed_request_ends_its_stream(rig: Rig) -> None:
    raw = rig.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
    with pytest.raises(grpc.RpcError) as caught:
        list(raw(iter([b"\xff\xff"]), timeout=PATIENCE))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_timeout_parameter_reaches_the_engine(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    request = echo()
    request.parameters["timeout"].int64_param = 5_000_000
    stub.ModelInfer(request)
    assert rig.echo.calls[-1].deadline_ns > 0
    stub.ModelInfer(echo())
    assert rig.echo.calls[-1].deadline_ns == 0


def test_options_of_a_text_reach_the_engine(rig: Rig, stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    request = text("a b")
    request.parameters["priority"].uint64_param = 3
    options = request.inputs.add(name="sampling_parameters", datatype="BYTES", shape=[1])
    options.contents.bytes_contents.append(b'{"choices": ["x", "y"], "min_tokens": 2, "seed": 9}')
    list(stub.ModelStreamInfer(iter([request]), timeout=PATIENCE))
    call = rig.text.calls[-1]
    assert call == GenerateCall(
        call.deadline_ns,
        3,
        "a b",
        sampling=Sampling(seed=9),
        client="ipv4:127.0.0.1",
        constraint=Constraint("choice", choices=("x", "y")),
        min_tokens=2,
    )


def test_a_text_has_one_answer(stub: pb_grpc.GRPCInferenceServiceStub) -> None:
    request = text("a b")
    options = request.inputs.add(name="sampling_parameters", datatype="BYTES", shape=[1])
    options.contents.bytes_contents.append(b'{"n": 2}')
    (response,) = stub.ModelStreamInfer(iter([request]), timeout=PATIENCE)
    assert response.error_message.startswith("n is not offered here: a request has one text_output")
