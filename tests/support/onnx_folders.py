"""Model folders with ONNX models that are slow, greedy, or both, as much as their caller asks for."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

_TOML = """
name = "{name}"
version = "1.0.0"
engine = "onnx"

[[files]]
path = "model.onnx"

[card]
licence = "MIT"
source = "made for a test"
intended_use = "tests"
limits = "none"
"""
_value = helper.make_tensor_value_info
_node = helper.make_node


def onnx_folder(root: Path, name: str, model: bytes, more_toml: str = "") -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "model.toml").write_text(_TOML.format(name=name) + more_toml)
    (folder / "model.onnx").write_bytes(model)
    return folder


def _model(nodes, inputs, outputs, initializers=()) -> bytes:
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(initializers))
    opsets = [helper.make_opsetid("", 21)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString())


def _constant(name: str, values: object, dtype: type) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def identity() -> bytes:
    """``x`` FP32 [-1] comes back as ``y``."""
    ends = [_value("x", TensorProto.FLOAT, ["n"])], [_value("y", TensorProto.FLOAT, ["n"])]
    return _model([_node("Identity", ["x"], ["y"])], *ends)


def ragged() -> bytes:
    """``x`` FP32 [-1, -1]; ``y`` of the same shape has the exponentials of its numbers."""
    ends = [_value("x", TensorProto.FLOAT, ["n", "length"])], [_value("y", TensorProto.FLOAT, ["n", "length"])]
    return _model([_node("Exp", ["x"], ["y"])], *ends)


def lookup() -> bytes:
    """``i`` INT64 [-1] chooses from ten numbers, ``y`` FP32 [-1]; an index that is out of range fails the whole run."""
    ends = [_value("i", TensorProto.INT64, ["n"])], [_value("y", TensorProto.FLOAT, ["n"])]
    numbers = _constant("numbers", [float(n * n) for n in range(10)], np.float32)
    return _model([_node("Gather", ["numbers", "i"], ["y"])], *ends, [numbers])


def greedy() -> bytes:
    """``megabytes`` INT64 [1]: so many are filled; ``y`` FP32 [1] is 1."""
    count = _node("Mul", ["megabytes", "per"], ["count"])
    filled = _node(
        "ConstantOfShape", ["count"], ["filled"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    )
    largest = _node("ReduceMax", ["filled"], ["y"], keepdims=1)
    ends = [_value("megabytes", TensorProto.INT64, [1])], [_value("y", TensorProto.FLOAT, [1])]
    return _model([count, filled, largest], *ends, [_constant("per", [250_000], np.int64)])


def _loop(body_nodes, carried: str, given: str) -> list:
    """A Loop of ``count`` iterations over one FP32 tensor that each makes anew, as ``next``."""
    body = helper.make_graph(
        [_node("Identity", ["go"], ["go_on"]), *body_nodes],
        "body",
        [
            _value("i", TensorProto.INT64, []),
            _value("go", TensorProto.BOOL, []),
            _value(carried, TensorProto.FLOAT, None),
        ],
        [_value("go_on", TensorProto.BOOL, []), _value("next", TensorProto.FLOAT, None)],
    )
    scalar = _node("Squeeze", ["count"], ["trips"])
    return [scalar, _node("Loop", ["trips", "", given], ["last"], body=body)]


def growing() -> bytes:
    """``count`` INT64 [1]: a tensor of 1 MB is doubled so many times; ``y`` FP32 [1] is 1."""
    doubled = _node("Concat", ["held", "held"], ["next"], axis=0)
    first = _node("ConstantOfShape", ["size"], ["first"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]))
    largest = _node("ReduceMax", ["last"], ["y"], keepdims=1)
    ends = [_value("count", TensorProto.INT64, [1])], [_value("y", TensorProto.FLOAT, [1])]
    return _model([first, *_loop([doubled], "held", "first"), largest], *ends, [_constant("size", [250_000], np.int64)])


def slow(width: int = 512) -> bytes:
    """``count`` INT64 [1]: so many products of two matrices of ``width``, some 3 ms each for 512; ``y`` FP32 [1] is 1."""
    product = _node("MatMul", ["held", "unit"], ["next"])
    largest = _node("ReduceMax", ["last"], ["top"], keepdims=0)
    shaped = _node("Reshape", ["top", "one"], ["y"])
    ends = [_value("count", TensorProto.INT64, [1])], [_value("y", TensorProto.FLOAT, [1])]
    unit = _constant("unit", np.eye(width), np.float32)
    return _model([*_loop([product], "held", "unit"), largest, shaped], *ends, [unit, _constant("one", [1], np.int64)])


def greedy_load(megabytes: int) -> bytes:
    """A model that fills so many megabytes as soon as it is loaded: the runtime computes what depends on no input."""
    count = _constant("count", [megabytes * 250_000], np.int64)
    filled = _node(
        "ConstantOfShape", ["count"], ["filled"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    )
    more = _node("Exp", ["filled"], ["more"])
    largest = _node("ReduceMax", ["more"], ["top"], keepdims=1)
    ends = [_value("x", TensorProto.FLOAT, [1])], [_value("y", TensorProto.FLOAT, [1])]
    return _model([filled, more, largest, _node("Mul", ["x", "top"], ["y"])], *ends, [count])
