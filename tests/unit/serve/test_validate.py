import struct

import pytest

from appliance.calls import OutputWanted
from appliance.errors import InvalidArgument
from appliance.serve import validate
from appliance.serve.validate import Plan
from appliance.tensor_heads import TensorHead
from appliance.types import ModelKind, ModelSignature, TensorSpec

PLAN = Plan(
    "m",
    ModelSignature(
        ModelKind.TENSOR,
        "p",
        (
            TensorSpec("x", "FP32", (-1, 3)),
            TensorSpec("s", "BYTES", (-1,), optional=True),
            TensorSpec("b", "BOOL", (2,), optional=True),
            TensorSpec("n", "FP32", (), optional=True),
        ),
        (TensorSpec("y", "FP32", (-1,)), TensorSpec("z", "INT64", (-1,))),
    ),
)
X = ("x", "FP32", (2, 3), bytes(24))


def run(*tensors: tuple[str, str, tuple[int, ...], bytes]) -> None:
    heads = [TensorHead(name, datatype, shape, len(data)) for name, datatype, shape, data in tensors]
    validate.check_inputs(PLAN, heads, [t[3] for t in tensors])


@pytest.mark.parametrize(
    "tensors",
    [
        [X],
        [("x", "FP32", (0, 3), b"")],
        [("x", "FP32", (1, 3), struct.pack("<3f", float("nan"), float("inf"), -0.0))],
        [X, ("s", "BYTES", (2,), b"\x01\0\0\0a\0\0\0\0")],
        [X, ("b", "BOOL", (2,), b"\x00\x01")],
        [("n", "FP32", (), bytes(4)), X],
    ],
    ids=["plain", "empty batch", "NaN passes", "bytes", "bool", "scalar, other order"],
)
def test_accepted(tensors: list[tuple[str, str, tuple[int, ...], bytes]]) -> None:
    run(*tensors)


@pytest.mark.parametrize(
    ("tensors", "reason", "words"),
    [
        ([], "INPUT_MISSING", "expects 1 inputs, 0 came: missing 'x'"),
        ([("s", "BYTES", (0,), b"")], "INPUT_MISSING", "missing 'x'"),
        ([X, ("q", "FP32", (1,), bytes(4))], "INPUT_UNKNOWN", "no input 'q'; it takes 'x', 's', 'b', 'n'"),
        ([X, X], "INPUT_DUPLICATE", "'x' is given twice"),
        ([("x", "FP64", (2, 3), bytes(48))], "DATATYPE", "has datatype 'FP64', expected FP32"),
        ([("x", "float", (2, 3), bytes(24))], "DATATYPE", "no datatype of the protocol"),
        ([("x", "", (2, 3), bytes(24))], "DATATYPE", "expected FP32"),
        ([("x", "FP32", (2, 4), bytes(32))], "SHAPE", r"has shape \[2, 4\], expected \[-1, 3\]"),
        ([("x", "FP32", (6,), bytes(24))], "SHAPE", r"has shape \[6\], expected \[-1, 3\]"),
        ([("x", "FP32", (), bytes(4))], "SHAPE", r"has shape \[\]"),
        ([("x", "FP32", (1, 2, 3), bytes(24))], "SHAPE", r"\[1, 2, 3\]"),
        ([("x", "FP32", (-1, 3), bytes(12))], "SHAPE", r"has shape \[-1, 3\], expected"),
        ([("x", "FP32", (-2, 3), bytes(0))], "SHAPE", r"\[-2, 3\]"),
        ([("x", "FP32", (2**62, 3), bytes(12))], "SHAPE", "more than the bound"),
        ([("x", "FP32", (2, 3), bytes(23))], "DATA_LENGTH", "holds 23 bytes, expected 24 for FP32"),
        ([("x", "FP32", (2, 3), bytes(25))], "DATA_LENGTH", "holds 25 bytes, expected 24"),
        ([("x", "FP32", (2, 3), b"")], "DATA_LENGTH", "holds 0 bytes"),
        ([X, ("s", "BYTES", (1,), b"\x09\0\0\0a")], "BYTES_TENSOR", r"input 's'.*reaches 8 bytes beyond"),
        ([X, ("s", "BYTES", (2,), b"\x01\0\0\0a")], "BYTES_TENSOR", "there are 1 elements, the shape says 2"),
        ([X, ("b", "BOOL", (2,), b"\x00\x02")], "DATA", "other than 0 and 1"),
    ],
)
def test_refused(tensors: list[tuple[str, str, tuple[int, ...], bytes]], reason: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        run(*tensors)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("outputs", "words"),
    [(["q"], "no output 'q'; it gives 'y', 'z'"), (["y", "y"], "'y' is asked for twice")],
)
def test_outputs_refused(outputs: list[str], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        validate.check_outputs(PLAN, [OutputWanted(name) for name in outputs])


def test_outputs_accepted_in_any_order() -> None:
    validate.check_outputs(PLAN, [OutputWanted("z"), OutputWanted("y")])


def test_long_names_are_cut_in_messages() -> None:
    with pytest.raises(InvalidArgument) as caught:
        run(X, ("q" * 10_000, "FP32", (1,), bytes(4)))
    assert len(caught.value.message) < 400


def test_request_id_is_bounded() -> None:
    validate.check_request_id("x" * 256)
    with pytest.raises(InvalidArgument, match="257 characters"):
        validate.check_request_id("x" * 257)
