import struct
from typing import Any

import pytest

from appliance import limits
from appliance.answers import InferDone
from appliance.calls import OutputWanted
from appliance.errors import InvalidArgument
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.serve import convert
from appliance.tensor_heads import TensorHead


def typed(datatype: str, shape: list[int], **contents: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype=datatype, shape=shape, contents=pb.InferTensorContents(**contents))
    return request


@pytest.mark.parametrize(
    ("datatype", "contents", "expected"),
    [
        ("BOOL", {"bool_contents": [True, False]}, b"\x01\x00"),
        ("INT8", {"int_contents": [-1, 127]}, struct.pack("<2b", -1, 127)),
        ("INT16", {"int_contents": [-2, 300]}, struct.pack("<2h", -2, 300)),
        ("INT32", {"int_contents": [-3, 2**31 - 1]}, struct.pack("<2i", -3, 2**31 - 1)),
        ("INT64", {"int64_contents": [-4, 2**62]}, struct.pack("<2q", -4, 2**62)),
        ("UINT8", {"uint_contents": [0, 255]}, b"\x00\xff"),
        ("UINT16", {"uint_contents": [0, 65535]}, struct.pack("<2H", 0, 65535)),
        ("UINT32", {"uint_contents": [0, 2**32 - 1]}, struct.pack("<2I", 0, 2**32 - 1)),
        ("UINT64", {"uint64_contents": [0, 2**64 - 1]}, struct.pack("<2Q", 0, 2**64 - 1)),
        ("FP32", {"fp32_contents": [0.5, -1.5]}, struct.pack("<2f", 0.5, -1.5)),
        ("FP64", {"fp64_contents": [0.1, -1.5]}, struct.pack("<2d", 0.1, -1.5)),
        ("BYTES", {"bytes_contents": [b"a", b""]}, b"\x01\0\0\0a\0\0\0\0"),
    ],
)
def test_typed_contents(datatype: str, contents: dict[str, Any], expected: bytes) -> None:
    heads, buffers = convert.tensors_in(typed(datatype, [2], **contents))
    assert heads == (TensorHead("x", datatype, (2,), len(expected)),)
    assert buffers == [expected]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (typed("FP32", [2], fp32_contents=[1]), "has 1 elements, expected 2"),
        (typed("FP32", [0], fp32_contents=[1]), "has 1 elements, expected 0"),
        (typed("FP32", [-1], fp32_contents=[1]), "negative axis"),
        (typed("FP32", [1], fp64_contents=[1]), "has fp64_contents; FP32 belongs into fp32_contents"),
        (typed("FP32", [1], fp32_contents=[1], int_contents=[1]), "has int_contents"),
        (typed("INT8", [1], int_contents=[128]), "a value that INT8 cannot hold"),
        (typed("UINT8", [1], uint_contents=[256]), "a value that UINT8 cannot hold"),
        (typed("UINT16", [1], uint_contents=[65536]), "a value that UINT16 cannot hold"),
        (typed("FP16", [1], fp32_contents=[1]), "'FP16' comes only raw"),
        (typed("BF16", [1], fp32_contents=[1]), "'BF16' comes only raw"),
        (typed("FLOAT", [1], fp32_contents=[1]), "'FLOAT' is no datatype of the protocol"),
        (typed("FP32", [1] * 17, fp32_contents=[1]), "17 axes, at most 16"),
    ],
)
def test_typed_contents_refused(request_: pb.ModelInferRequest, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        convert.tensors_in(request_)


def test_raw_contents() -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="a", datatype="FP16", shape=[1])
    request.inputs.add(name="b", datatype="BYTES", shape=[0])
    request.raw_input_contents.extend([b"\0\0", b""])
    heads, buffers = convert.tensors_in(request)
    assert heads == (TensorHead("a", "FP16", (1,), 2), TensorHead("b", "BYTES", (0,), 0))
    assert buffers == [b"\0\0", b""]


@pytest.mark.parametrize("count", [1, 3])
def test_raw_count_must_match(count: int) -> None:
    request = pb.ModelInferRequest()
    request.inputs.add(name="a")
    request.inputs.add(name="b")
    request.raw_input_contents.extend([b"x"] * count)
    with pytest.raises(InvalidArgument, match=f"2 inputs and {count} raw_input_contents"):
        convert.tensors_in(request)


def test_raw_and_typed_at_once() -> None:
    request = typed("FP32", [1], fp32_contents=[1])
    request.raw_input_contents.append(bytes(4))
    with pytest.raises(InvalidArgument, match="use one or the other"):
        convert.tensors_in(request)


def test_too_many_inputs() -> None:
    request = pb.ModelInferRequest()
    for _ in range(limits.tensors_per_call_max + 1):
        request.inputs.add(name="a")
    with pytest.raises(InvalidArgument, match="257 inputs came"):
        convert.tensors_in(request)


def test_parameter_without_a_value() -> None:
    request = pb.ModelInferRequest()
    request.parameters["p"].SetInParent()
    with pytest.raises(InvalidArgument, match="'p' has no value"):
        convert.request_options(request)


def test_outputs_wanted() -> None:
    request = pb.ModelInferRequest()
    request.outputs.add(name="y")
    request.outputs.add(name="z").parameters["classification"].int64_param = 3
    assert convert.outputs_wanted(request) == (OutputWanted("y"), OutputWanted("z", 3))


def test_response() -> None:
    heads = (TensorHead("y", "FP32", (2,), 8), TensorHead("z", "BYTES", (0,), 0), TensorHead("w", "BOOL", (), 1))
    data = convert.infer_response("m", "1.0.0", "id", InferDone(heads), memoryview(bytes(range(9))), final=True)
    response = pb.ModelInferResponse.FromString(data)
    assert response.parameters["triton_final_response"].bool_param
    assert [(o.name, o.datatype, list(o.shape)) for o in response.outputs] == [
        ("y", "FP32", [2]),
        ("z", "BYTES", [0]),
        ("w", "BOOL", []),
    ]
    assert list(response.raw_output_contents) == [bytes(range(8)), b"", b"\x08"]
    assert (response.model_name, response.model_version, response.id) == ("m", "1.0.0", "id")


@pytest.mark.parametrize("size", [7, 9])
def test_an_engine_whose_heads_lie_is_a_bug(size: int) -> None:
    done = InferDone((TensorHead("y", "FP32", (2,), 8),))
    with pytest.raises(ValueError, match=f"claim 8 bytes, the frame carries {size}"):
        convert.infer_response("m", "1", "", done, memoryview(bytes(size)))
