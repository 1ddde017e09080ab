"""Further versions of the breast cancer classifier, as a model owner would release them.

A better one, and two bad ones: what is wrong with one its golden tests show, what is wrong with the other only traffic.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.classic import breast_cancer

_TEMPLATE = Path(__file__).parent / "breast-cancer" / "model.toml"
# Above it the fragile version fails. The golden rows are of smaller cells.
LARGE_RADIUS = 18.0


def better(folder: Path, version: str) -> Path:
    """The folder, complete: a forest of 200 trees."""
    return _make(folder, version, lambda model: model)


def mistaken(folder: Path, version: str) -> Path:
    """The folder, complete: exported with its classes swapped, against what its golden tests expect."""
    return _make(folder, version, _swapped)


def fragile(folder: Path, version: str) -> Path:
    """The folder, complete: it passes its golden tests, and breaks on large cells."""
    return _make(folder, version, _breakable)


def _make(folder: Path, version: str, change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    text = (
        _TEMPLATE.read_text().replace('version = "1.0.0"', f'version = "{version}"').replace("100 trees", "200 trees")
    )
    for mark, value in breast_cancer(folder, trees=200).items():
        text = text.replace(mark, value)
    (folder / "model.toml").write_text(text)
    path = folder / "model.onnx"
    onnx.save(change(onnx.load(path)), path)
    return folder


def _swapped(model: onnx.ModelProto) -> onnx.ModelProto:
    order = numpy_helper.from_array(np.array([1, 0], np.int64), "order")
    return _behind(model, [helper.make_node("Gather", ["inner", "order"], ["probabilities"], axis=1)], [order])


def _breakable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Adds a zero that is looked up in a table of one entry, at place 0, and at place 5 for large cells."""
    constants = {
        "first": np.array([0], np.int64),
        "limit": np.array([LARGE_RADIUS], np.float32),
        "far": np.array([5], np.int64),
        "table": np.array([0.0], np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["features", "first"], ["radius"], axis=1),
        helper.make_node("Greater", ["radius", "limit"], ["large"]),
        helper.make_node("Cast", ["large"], ["large_number"], to=TensorProto.INT64),
        helper.make_node("Mul", ["large_number", "far"], ["place"]),
        helper.make_node("Gather", ["table", "place"], ["nothing"]),
        helper.make_node("Add", ["inner", "nothing"], ["probabilities"]),
    ]
    return _behind(model, nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()])


def _behind(model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> onnx.ModelProto:
    """Lets ``nodes`` make the output "probabilities" out of what made it so far, which is "inner" from now on."""
    for node in model.graph.node:
        node.output[:] = ["inner" if name == "probabilities" else name for name in node.output]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(constants)
    onnx.checker.check_model(model)
    return model
