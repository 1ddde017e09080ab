"""Many small models, each of its own name: 30 floats in, 2 out, a matrix product and a softmax."""

from pathlib import Path

MODEL_TOML = """name = "{name}"
version = "1.0.0"
engine = "onnx"

[[files]]
path = "model.onnx"
role = "model"

[onnx]
threads = 1

[card]
description = "A matrix product of its own."
licence = "Apache-2.0"
source = "Made by scripts/bench_models."
intended_use = "Measuring what many models cost."
limits = "Answers no question."
"""
INPUTS, OUTPUTS = 30, 2


def write(folder: Path, number: int) -> str:
    """Write the model folder ``folder``/NAME; returns the name. Every number gives other weights."""
    import numpy as np
    from onnx import TensorProto, checker, helper, numpy_helper

    name = f"tiny-{number:02d}"
    weights = np.random.default_rng(number).normal(size=(INPUTS, OUTPUTS)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Softmax", ["product"], ["y"], axis=1)],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", OUTPUTS])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    target = folder / name
    target.mkdir(parents=True)
    (target / "model.onnx").write_bytes(model.SerializeToString())
    (target / "model.toml").write_text(MODEL_TOML.format(name=name))
    return name
