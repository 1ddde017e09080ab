import numpy as np
import pytest
from bench.payload import InputSpec, build_request, close_axes, parse_input, raw_bytes
from bench.target import largest_difference

from appliance.pb.inference import grpc_service_pb2 as pb


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x:FP32:1x30", InputSpec("x", "FP32", (1, 30))),
        ("x:fp32:1,30", InputSpec("x", "FP32", (1, 30))),
        ("s:BYTES:4", InputSpec("s", "BYTES", (4,))),
        ("scalar:INT64:", InputSpec("scalar", "INT64", ())),
        ("x:FP32:-1x30", InputSpec("x", "FP32", (-1, 30))),
    ],
)
def test_inputs_are_read(text, expected):
    assert parse_input(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x", "expected name:datatype:shape"),
        ("x:FP32", "expected name:datatype:shape"),
        ("x:FLOAT:1", "datatype 'FLOAT' is none of"),
        ("x:FP32:1xa", "is not numbers joined by x"),
        ("x:FP32:-2", "length below -1"),
        ("x:FP32:1:/no/such.npy", "no such file"),
    ],
)
def test_bad_inputs_are_told(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_input(text)


@pytest.mark.parametrize(
    ("shape", "batch", "payload_bytes", "expected"),
    [
        ((-1, 30), 1, None, (1, 30)),
        ((-1, 30), 8, None, (8, 30)),
        ((2, 30), 8, None, (2, 30)),
        ((-1, 30), 1, 12_000, (100, 30)),
        ((-1, -1), 2, 8_000, (2, 1000)),
        ((-1,), 1, 602_112, (150_528,)),
        ((-1,), 1, 1, (1,)),
    ],
)
def test_open_axes_are_closed(shape, batch, payload_bytes, expected):
    assert close_axes(InputSpec("x", "FP32", shape), batch, payload_bytes).shape == expected


@pytest.mark.parametrize(
    ("shape", "payload_bytes", "complaint"),
    [((1, -1), None, "give it with --input"), ((1, 30), 100, "needs an open axis")],
)
def test_axes_that_nobody_gave_are_told(shape, payload_bytes, complaint):
    with pytest.raises(ValueError, match=complaint):
        close_axes(InputSpec("x", "FP32", shape), 1, payload_bytes)


@pytest.mark.parametrize(
    ("datatype", "size"),
    [("BOOL", 1), ("UINT8", 1), ("INT16", 2), ("FP16", 2), ("FP32", 4), ("INT64", 8), ("BYTES", 20)],
)
def test_contents_fill_the_shape_and_stay_the_same(datatype, size):
    spec = InputSpec("x", datatype, (3, 5))
    assert len(raw_bytes(spec)) == 15 * size
    assert raw_bytes(spec) == raw_bytes(spec)


def test_values_come_from_a_file(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float64))
    spec = parse_input(f"x:FP32:2x3:{tmp_path / 'x.npy'}")
    assert np.frombuffer(raw_bytes(spec), "<f4").tolist() == [0, 1, 2, 3, 4, 5]


def test_a_file_of_another_size_is_told(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(7))
    with pytest.raises(ValueError, match="holds \\[7\\], not \\[2, 3\\]"):
        raw_bytes(parse_input(f"x:FP32:2x3:{tmp_path / 'x.npy'}"))


def test_a_request_carries_model_version_and_raw_contents():
    request = pb.ModelInferRequest.FromString(build_request("m", "2", [InputSpec("x", "FP32", (1, 30))]))
    assert (request.model_name, request.model_version) == ("m", "2")
    assert list(request.inputs[0].shape) == [1, 30]
    assert len(request.raw_input_contents[0]) == 120


def _answer(name, values):
    answer = pb.ModelInferResponse(raw_output_contents=[np.asarray(values, "<f4").tobytes()])
    answer.outputs.add(name=name, datatype="FP32", shape=[len(values)])
    return answer.SerializeToString()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (_answer("y", [1, 2]), _answer("y", [1, 2]), 0.0),
        (_answer("y", [1, 2]), _answer("y", [1, 4]), 2.0),
        (_answer("y", [1, 2]), _answer("y", [1]), float("inf")),
        (_answer("y", [1, 2]), _answer("z", [1, 2]), None),
    ],
)
def test_answers_of_two_servers_are_compared(first, second, expected):
    assert largest_difference(first, second) == expected
