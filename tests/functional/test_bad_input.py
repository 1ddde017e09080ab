"""Bad input over the wire: each gets a status and a message that names the culprit, and the daemon serves on."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from daemon_process import Daemon
from rpc_failures import fails
from triton_calls import SECONDS, a_pair, given, raw, stub, texts, typed

Request = Any  # service_pb2.ModelInferRequest, which carries no types
A = ("a", "FP32", [2, 3], bytes(24))
B = ("b", "INT64", [1], bytes(8))
X = ("x", "BYTES", [1], b"\x01\0\0\0x")
FLOATS = ("fp32", "FP32", [1, 2], {"fp32_contents": [1, 2]})


@pytest.fixture(scope="module")
def channel(client_daemon: Daemon) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(client_daemon.address, options=[("grpc.max_send_message_length", -1)]) as made:
        yield made


@pytest.fixture
def infer(channel: grpc.Channel, client_daemon: Daemon) -> Iterator[Callable[[Request], Any]]:
    """Asks; when the test has ended, the same daemon answers a good request."""
    pids = [client_daemon.process_of(role) for role in ("supervisor", "front-end 0")]
    yield lambda request: stub(channel).ModelInfer(request, timeout=SECONDS)
    good = triton.InferResult(stub(channel).ModelInfer(raw("pair", A, B), timeout=SECONDS))
    assert good.as_numpy("out_b").tolist() == [100]
    assert [client_daemon.process_of(role) for role in ("supervisor", "front-end 0")] == pids


def with_parameters(**parameters: dict[str, Any]) -> Request:
    request = raw("pair", A, B)
    for key, choice in parameters.items():
        for field, value in choice.items():
            setattr(request.parameters[key], field, value)
    return request


def asking_for(*outputs: str, **parameters: dict[str, Any]) -> Request:
    request = raw("pair", A, B)
    for name in outputs:
        output = request.outputs.add(name=name)
        for key, choice in parameters.items():
            for field, value in choice.items():
                setattr(output.parameters[key], field, value)
    return request


def mixed() -> Request:
    request = raw("pair", A, B)
    request.inputs[1].contents.int64_contents.append(1)
    return request


def counts_differ() -> Request:
    request = raw("pair", A, B)
    del request.raw_input_contents[1]
    return request


def in_shared_memory() -> Request:
    request = raw("pair", A, B)
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    return request


RAW = {
    "datatype": (raw("pair", ("a", "FP64", [2, 3], bytes(48)), B), "'a'.*datatype 'FP64', expected FP32"),
    "datatype of none": (raw("pair", ("a", "FLOAT", [2, 3], bytes(24)), B), "'a'.*'FLOAT', which is no datatype"),
    "shape": (raw("pair", ("a", "FP32", [3, 2], bytes(24)), B), r"'a'.*shape \[3, 2\], expected \[2, 3\]"),
    "rank": (raw("pair", ("a", "FP32", [6], bytes(24)), B), r"'a'.*shape \[6\], expected \[2, 3\]"),
    "negative axis": (raw("pair", A, ("b", "INT64", [-1], bytes(8))), r"'b'.*shape \[-1\]"),
    "many axes": (raw("pair", ("a", "FP32", [1] * 17, bytes(4)), B), "'a' has 17 axes, at most 16"),
    "count": (raw("pair", A), "expects 2 inputs, 1 came: missing 'b'"),
    "nothing": (raw("pair"), "expects 2 inputs, 0 came: missing 'a', 'b'"),
    "unknown name": (raw("pair", A, ("c", "INT64", [1], bytes(8))), "no input 'c'; it takes 'a', 'b'"),
    "twice": (raw("pair", A, A, B), "'a' is given twice"),
    "one byte short": (raw("pair", ("a", "FP32", [2, 3], bytes(23)), B), "'a'.*23 bytes, expected 24"),
    "one byte long": (raw("pair", ("a", "FP32", [2, 3], bytes(25)), B), "'a'.*25 bytes, expected 24"),
    "empty for a shape": (raw("pair", ("a", "FP32", [2, 3], b""), B), "'a'.*0 bytes, expected 24"),
    "huge by its shape": (raw("pair", A, ("b", "INT64", [2**40], b"")), "'b'.*0 bytes, expected 8796093022208"),
    "huger": (raw("pair", A, ("b", "INT64", [2**62], b"")), "'b'.*4611686018427387904 elements, more than"),
    "counts differ": (counts_differ(), "2 inputs and 1 raw_input_contents"),
    "raw and typed": (mixed(), "'b' has typed contents, but the request has raw_input_contents"),
    "bool of 2": (raw("echo", ("bool", "BOOL", [1, 2], b"\x01\x02")), "'bool'.*other than 0 and 1"),
    "bytes beyond": (raw("echo", ("bytes", "BYTES", [1, 1], b"\xff\0\0\0abc")), "'bytes'.*element 0 reaches 252 bytes"),
    "bytes 4 GiB": (raw("echo", ("bytes", "BYTES", [1, 1], b"\xff\xff\xff\xffa")), "'bytes'.*element 0 reaches"),
    "bytes cut": (raw("echo", ("bytes", "BYTES", [1, 2], b"\0\0\0\0\0\0")), "'bytes'.*element 1 ends in the middle"),
    "bytes too many": (raw("echo", ("bytes", "BYTES", [1, 1], bytes(8))), "'bytes'.*4 bytes come after"),
    "bytes too few": (raw("echo", ("bytes", "BYTES", [1, 3], bytes(8))), "'bytes'.*2 elements, the shape says 3"),
    "not UTF-8": (raw("strings", X, ("y", "BYTES", [1], b"\x01\0\0\0\xff")), "'y'.*UTF-8"),
    "shapes that don't go together": (
        raw("strings", ("x", "BYTES", [2], bytes(8)), ("y", "BYTES", [3], bytes(12))),
        "same number of rows",
    ),
    "long id": (raw("pair", A, B, id="x" * 300), "id has 300 characters, at most 256"),
    "unknown output": (asking_for("out_c"), "no output 'out_c'; it gives 'out_a', 'out_b'"),
    "output twice": (asking_for("out_a", "out_a"), "output 'out_a' is asked for twice"),
    "classes of a string": (asking_for("out_a", classification={"string_param": "3"}), "'classification'.*'out_a'"),
    "classes below zero": (asking_for("out_a", classification={"int64_param": -1}), "'classification'.*'out_a'"),
    "unknown triton_": (with_parameters(triton_magic={"bool_param": True}), "'triton_magic' is not known"),
    "priority of a string": (with_parameters(priority={"string_param": "1"}), "'priority' must be a uint64"),
    "timeout below zero": (with_parameters(timeout={"int64_param": -1}), "'timeout' must be.*integer '-1'"),
    "sequence_id of a bool": (with_parameters(sequence_id={"bool_param": True}), "'sequence_id' must be"),
    "sequence_start of a number": (
        with_parameters(sequence_start={"int64_param": 1}),
        "'sequence_start' must be a bool",
    ),
    "65 parameters": (
        with_parameters(**{f"p{n}": {"bool_param": True} for n in range(65)}),
        "65 parameters.*at most 64",
    ),
    "long parameter": (with_parameters(p={"string_param": "x" * 70_000}), "'p' has 70001 characters"),
    "257 inputs": (raw("pair", *[("a", "FP32", [0], b"")] * 257), "257 inputs.*at most 256"),
}

TYPED = {
    "datatype": (typed("echo", ("fp32", "FP64", [1, 1], {"fp64_contents": [1]})), "'fp32'.*'FP64', expected FP32"),
    "field": (typed("echo", ("fp32", "FP32", [1, 1], {"fp64_contents": [1]})), "'fp32' has fp64_contents"),
    "both fields": (typed("echo", (*FLOATS[:3], {"fp32_contents": [1, 2], "int_contents": [1]})), "'fp32' has int_con"),
    "one short": (typed("echo", (*FLOATS[:3], {"fp32_contents": [1]})), "'fp32' has 1 elements, expected 2"),
    "one long": (typed("echo", (*FLOATS[:3], {"fp32_contents": [1, 2, 3]})), "'fp32' has 3 elements, expected 2"),
    "none": (typed("echo", (*FLOATS[:3], {})), "'fp32' has 0 elements, expected 2"),
    "huge by its shape": (typed("echo", ("fp32", "FP32", [2**40, 2**40], {})), "'fp32' has 0 elements"),
    "negative axis": (typed("echo", ("fp32", "FP32", [-1, -1], {"fp32_contents": [1]})), "'fp32' has a negative axis"),
    "half precision": (
        typed("echo", ("fp16", "FP16", [1, 1], {"fp32_contents": [1]})),
        "'fp16': 'FP16' comes only raw",
    ),
    "out of range": (typed("echo", ("int8", "INT8", [1, 1], {"int_contents": [300]})), "'int8' has a value.*INT8"),
    "unknown name": (typed("echo", ("fp33", "FP32", [1, 1], {"fp32_contents": [1]})), "no input 'fp33'"),
    "twice": (typed("echo", FLOATS, FLOATS), "'fp32' is given twice"),
    "missing": (typed("pair", ("b", "INT64", [1], {"int64_contents": [1]})), "missing 'a'"),
    "not UTF-8": (
        typed("strings", *[(n, "BYTES", [1], {"bytes_contents": [b"\xfe"]}) for n in ("x", "y")]),
        "'x'.*UTF-8",
    ),
}


@pytest.mark.parametrize(("request_", "words"), RAW.values(), ids=RAW)
def test_raw(infer: Callable[[Request], Any], request_: Request, words: str) -> None:
    with fails("INVALID_ARGUMENT", words):
        infer(request_)


@pytest.mark.parametrize(("request_", "words"), TYPED.values(), ids=TYPED)
def test_typed(infer: Callable[[Request], Any], request_: Request, words: str) -> None:
    with fails("INVALID_ARGUMENT", words):
        infer(request_)


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (raw("nope", A), "NOT_FOUND", "^Request for unknown model: 'nope' is not found"),
        (raw("", A), "NOT_FOUND", "^Request for unknown model: ''"),
        (raw("../../etc", A), "NOT_FOUND", "^Request for unknown model"),
        (raw("pair", A, B, model_version="9"), "NOT_FOUND", "'pair' version '9' is not found; there is 1.0.0, 2.0.0"),
        (in_shared_memory(), "UNIMPLEMENTED", "input 'a' is to be in shared memory"),
    ],
    ids=["model", "no name", "path", "version", "shared memory"],
)
def test_what_is_not_here(infer: Callable[[Request], Any], request_: Request, status: str, words: str) -> None:
    with fails(status, words):
        infer(request_)


def test_an_empty_parameter(infer: Callable[[Request], Any]) -> None:
    request = raw("pair", A, B)
    request.parameters["mine"].SetInParent()
    request.parameters["mine"].ClearField("bool_param")
    with fails("INVALID_ARGUMENT", "parameter 'mine' has no value"):
        infer(request)


def test_nan_is_no_bad_input(infer: Callable[[Request], Any]) -> None:
    nan = np.full((1, 3), np.nan, np.float32)
    result = triton.InferResult(infer(raw("echo", ("fp32", "FP32", [1, 3], nan.tobytes()))))
    assert np.isnan(result.as_numpy("out_fp32")).all()


def test_bytes_that_are_not_utf8_are_no_bad_input_for_bytes(infer: Callable[[Request], Any]) -> None:
    data = b"\x02\0\0\0\xff\xfe"
    assert infer(raw("echo", ("bytes", "BYTES", [1, 1], data))).raw_output_contents[0] == data


def test_a_message_over_the_limit(infer: Callable[[Request], Any]) -> None:
    """The bound is 4 MiB here: what just fits is answered, what doesn't is refused with both numbers."""
    fits = 4 * 1024 * 1024 - 1024
    answer = infer(raw("echo", ("uint8", "UINT8", [1, fits], bytes(fits))))
    assert len(answer.raw_output_contents[0]) == fits
    with fails("RESOURCE_EXHAUSTED", r"larger than max \(\d+ vs\. 4194304\)"):
        infer(raw("echo", ("uint8", "UINT8", [1, 5_000_000], bytes(5_000_000))))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x0a\x04pair\xff\xff\xff", "not a valid ModelInferRequest"),
        (b"\x0a\x02\xff\xfe", "a string in it is not UTF-8"),
        (b"not protobuf at all", "not a valid ModelInferRequest"),
    ],
    ids=["broken", "name not UTF-8", "text"],
)
@pytest.mark.usefixtures("infer")
def test_what_is_no_request(channel: grpc.Channel, data: bytes, words: str) -> None:
    call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    with fails("INVALID_ARGUMENT", words):
        call(data, timeout=SECONDS)


@pytest.mark.usefixtures("infer")
def test_a_call_that_does_not_exist(channel: grpc.Channel) -> None:
    with fails("UNIMPLEMENTED"):
        call: Any = channel.unary_unary("/inference.GRPCInferenceService/ModelGuess")
        call(b"", timeout=SECONDS)


@pytest.mark.usefixtures("infer")
def test_a_request_after_its_deadline(client_daemon: Daemon) -> None:
    with triton.InferenceServerClient(client_daemon.address) as client:
        with fails("DEADLINE_EXCEEDED", "the request's deadline passed"):
            client.infer("pair", a_pair(), timeout=1)
        with fails("DEADLINE_EXCEEDED", "Deadline Exceeded"):
            client.infer("slow", [given("x", np.ones(1, np.float32), "FP32")], client_timeout=0.05)


@pytest.mark.usefixtures("infer")
def test_bad_input_for_a_real_model(shared_daemon: Daemon) -> None:
    with triton.InferenceServerClient(shared_daemon.address) as client:
        rows = given("features", np.zeros((1, 29), np.float32), "FP32")
        with fails("INVALID_ARGUMENT", r"'features' of model 'breast-cancer' has shape \[1, 29\], expected \[-1, 30\]"):
            client.infer("breast-cancer", [rows])
        with fails("INVALID_ARGUMENT", "'features'.*'BYTES', expected FP32"):
            client.infer("breast-cancer", [given("features", texts(b"1"), "BYTES")])
        nan = given("features", np.full((1, 30), np.nan, np.float32), "FP32")
        assert client.infer("breast-cancer", [nan]).as_numpy("label").shape == (1,)
