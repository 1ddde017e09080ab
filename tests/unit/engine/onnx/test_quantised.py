"""Quantised models: made by onnxruntime.quantization, dynamic and static (QDQ), and by hand (QLinearMatMul)."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

quantization = pytest.importorskip("onnxruntime.quantization")

RNG = np.random.default_rng(3)
WEIGHTS = [RNG.standard_normal(shape).astype(np.float32) * 0.3 for shape in ((8, 16), (16, 4))]
X = RNG.standard_normal((5, 8)).astype(np.float32)


def perceptron(bench):
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w1"], ["y"]),
    ]
    ends = [("x", bench.types.FLOAT, ["n", 8])], [("y", bench.types.FLOAT, ["n", 4])]
    return bench.graph(nodes, *ends, [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(WEIGHTS)], opset=17)


class Calibration(quantization.CalibrationDataReader):
    """Some batches like those that will come."""

    def __init__(self):
        self.batches = iter([{"x": RNG.standard_normal((5, 8)).astype(np.float32)} for _ in range(8)])

    def get_next(self):
        return next(self.batches, None)


def dynamic(bench, source, target):
    quantization.quantize_dynamic(source, target)


def static(bench, source, target):
    quantization.quantize_static(source, target, Calibration(), quant_format=quantization.QuantFormat.QDQ)


@pytest.fixture
def quantised(bench):
    """Makes the model with one of the functions above; returns its bytes and operators."""

    def make(how):
        source, target = bench.folder / "float.onnx", bench.folder / "int8.onnx"
        source.write_bytes(perceptron(bench))
        how(bench, source, target)
        return target.read_bytes(), {node.op_type for node in onnx.load(target).graph.node}

    return make


def run(bench, model, **options):
    engine = bench.load(model, **options)
    engine.warm_up()
    return engine, np.frombuffer(bench.infer(engine, [bench.tensor("x", "FP32", X)])["y"].data, np.float32).reshape(
        5, 4
    )


@pytest.mark.parametrize(
    ("how", "operators"),
    [(dynamic, {"DynamicQuantizeLinear", "MatMulInteger"}), (static, {"QuantizeLinear", "DequantizeLinear"})],
)
@pytest.mark.parametrize("optimization", ["all", "off"])
def test_a_quantised_model_answers_nearly_as_the_original(bench, quantised, how, operators, optimization):
    model, found = quantised(how)
    assert operators <= found
    engine, answer = run(bench, model, optimization=optimization)
    expected = np.maximum(X @ WEIGHTS[0], 0) @ WEIGHTS[1]
    assert np.abs(answer - expected).max() < 0.1
    assert engine.signature().inputs[0].datatype == "FP32"


def test_dynamic_quantisation_makes_rows_depend_on_each_other(bench, quantised):
    """The scale of a batch comes from all its rows: so the trial at load must leave such a model unbatched."""
    model, _ = quantised(dynamic)
    engine, _ = run(bench, model)
    assert engine.signature().batch_rows_max == 0


def test_integers_in_and_out(bench):
    """QLinearMatMul by hand: exact, so it can be computed along."""
    t = bench.types
    a, b = RNG.integers(0, 255, (2, 3)).astype(np.uint8), RNG.integers(0, 255, (3, 2)).astype(np.uint8)
    facts = {"as": 0.1, "bs": 0.2, "ys": 8.0}
    zeros = {"az": 128, "bz": 127, "yz": 100}
    fixed = [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in facts.items()]
    fixed += [numpy_helper.from_array(np.array(v, np.uint8), k) for k, v in zeros.items()]
    fixed.append(numpy_helper.from_array(b, "b"))
    node = helper.make_node("QLinearMatMul", ["a", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"])
    engine = bench.load(bench.graph([node], [("a", t.UINT8, ["n", 3])], [("y", t.UINT8, ["n", 2])], fixed))
    got = np.frombuffer(bench.infer(engine, [bench.tensor("a", "UINT8", a)])["y"].data, np.uint8).reshape(2, 2)
    exact = (a.astype(int) - 128) @ (b.astype(int) - 127) * 0.1 * 0.2 / 8.0 + 100
    assert np.array_equal(got, np.clip(np.rint(exact), 0, 255))
