"""The k best of each row."""

import math

import numpy as np
import pytest

from appliance.engine.onnx.classification import classify
from appliance.errors import InvalidArgument

LABELS = ("cat", "dog")


@pytest.mark.parametrize(
    ("values", "datatype", "dtype", "k", "expected"),
    [
        ([0.1, 0.7, 0.2], "FP32", np.float32, 2, ["0.700000:1:dog", "0.200000:2"]),
        ([0.1, 0.7, 0.2], "FP64", np.float64, 9, ["0.700000:1:dog", "0.200000:2", "0.100000:0:cat"]),
        ([0.5, 0.5, 0.5], "FP16", np.float16, 2, ["0.500000:0:cat", "0.500000:1:dog"]),
        ([math.nan, 1.0, -math.inf], "FP32", np.float32, 1, ["1.000000:1:dog"]),
        ([math.inf, 1.0], "FP32", np.float32, 1, ["inf:0:cat"]),
        ([3, 200, 7], "UINT8", np.uint8, 2, ["200:1:dog", "7:2"]),
        ([-3, -200], "INT64", np.int64, 1, ["-3:0:cat"]),
        ([2**64 - 1, 0], "UINT64", np.uint64, 1, ["18446744073709551615:0:cat"]),
        ([False, True], "BOOL", np.bool_, 1, ["1:1:dog"]),
        ([0x3F80, 0x4000], "BF16", np.uint16, 1, ["2.000000:1:dog"]),
        ([], "FP32", np.float32, 3, []),
    ],
)
def test_one_row(values, datatype, dtype, k, expected):
    got = classify(np.array(values, dtype), datatype, k, LABELS, "y")
    assert got.tolist() == expected


def test_each_row_has_its_own_best():
    got = classify(np.array([[1.0, 2.0], [4.0, 3.0], [5.0, 5.0]], np.float32), "FP32", 1, (), "y")
    assert got.tolist() == [["2.000000:1"], ["4.000000:0"], ["5.000000:0"]]


def test_no_rows():
    assert classify(np.empty((0, 4), np.float32), "FP32", 2, (), "y").shape == (0, 2)


def test_scalar():
    assert classify(np.float32(1.5).reshape(()), "FP32", 2, (), "y").tolist() == ["1.500000:0"]


def test_strings_have_no_order():
    with pytest.raises(InvalidArgument, match="'y' holds BYTES"):
        classify(np.array(["a"], object), "BYTES", 1, (), "y")


def test_classification_of_an_output(bench):
    engine = bench.load(bench.identity(shape=("N", 3)))
    x = bench.tensor("x", "FP32", [[1.0, 3.0, 2.0], [9.0, 8.0, 7.0]])
    got = bench.infer(engine, [x], [("y", 2)])["y"]
    assert (got.datatype, got.shape) == ("BYTES", (2, 2))
    assert bench.strings(got) == ["3.000000:1", "2.000000:2", "9.000000:0", "8.000000:1"]


def test_one_number_a_row(bench):
    got = bench.infer(bench.load(bench.identity()), [bench.tensor("x", "FP32", [1.0, 3.0])], [("y", 5)])["y"]
    assert (got.shape, bench.strings(got)) == ((2, 1), ["1.000000:0", "3.000000:0"])


def test_bf16_output(bench):
    engine = bench.load(bench.identity(bench.types.BFLOAT16, ("N", 2)))
    got = bench.infer(engine, [bench.tensor("x", "BF16", [[0x3F80, 0x4000]])], [("y", 1)])["y"]
    assert bench.strings(got) == ["2.000000:1"]


def test_string_output_is_refused_before_the_model_runs(bench):
    engine = bench.load(bench.identity(bench.types.STRING))
    with pytest.raises(InvalidArgument, match="without classification"):
        bench.infer(engine, [bench.tensor("x", "BYTES", ["a"])], [("y", 1)])
    assert not engine.has_work()
    assert engine.stats().execution_count == 0
