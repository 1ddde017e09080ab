"""Model folders for functional tests of clients: echoes of every datatype, ONNX made on the spot, tiny language models."""

import json
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto, helper
from tiny_gguf import write_tiny_gguf

# All of the protocol.
DATATYPES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
DATATYPES += ["FP16", "BF16", "FP32", "FP64", "BYTES"]

_TOML = """
name = "{name}"
version = "{version}"
engine = "{engine}"

[[files]]
path = "{file}"

[card]
licence = "MIT"
source = "made for a test"
intended_use = "tests"
limits = "none"
"""


def _folder(root: Path, name: str, version: str, engine: str, file: str, more_toml: str) -> Path:
    folder = root / f"{name}-{version}"
    folder.mkdir()
    toml = _TOML.format(name=name, version=version, engine=engine, file=file) + more_toml
    (folder / "model.toml").write_text(toml)
    return folder


def fake(root: Path, name: str, version: str = "1.0.0", more_toml: str = "", **script: Any) -> Path:
    """A model whose engine follows a script (appliance/engine/fake/script.py)."""
    folder = _folder(root, name, version, "fake", "model.json", more_toml)
    (folder / "model.json").write_text(json.dumps(script))
    return folder


def echo(root: Path) -> Path:
    """ "echo": an optional input of each datatype, [-1, -1], in lower case; "out_" and its name gives it back."""
    tensors = [{"name": d.lower(), "datatype": d, "shape": [-1, -1], "optional": True} for d in DATATYPES]
    return fake(root, "echo", tensors=tensors)


def pair(root: Path, version: str, constant: int) -> Path:
    """ "pair": two inputs that must be there, ``a`` FP32 [2, 3] and ``b`` INT64 [-1]; each comes back ``constant`` larger."""
    a = {"name": "a", "shape": [2, 3]}
    b = {"name": "b", "datatype": "INT64", "shape": [-1]}
    return fake(root, "pair", version, tensors=[a, b], constant=constant)


def strings(root: Path) -> Path:
    """ "strings": ONNX, joins the texts in ``x`` and ``y`` [N] to ``joined``."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("StringConcat", ["x", "y"], ["joined"])],
        "g",
        [value(name, TensorProto.STRING, ["N"]) for name in ("x", "y")],
        [value("joined", TensorProto.STRING, ["N"])],
    )
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    folder = _folder(root, "strings", "1.0.0", "onnx", "model.onnx", "")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def tiny(root: Path, name: str, llama: str = "", **gguf: Any) -> Path:
    """A language model of some 250 kB; see tiny_gguf.py for what it can be told to say.

    One thread: two that wait for each other take up to 70 ms a token where other work wants the cores, one takes 0.1 ms.
    """
    more_toml = f"[llama]\nthreads = 1\n{llama}\n"
    folder = _folder(root, name, "1.0.0", "llama", "model.gguf", more_toml)
    write_tiny_gguf(folder / "model.gguf", **gguf)
    return folder
