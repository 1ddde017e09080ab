"""ONNX Runtime's account of a model's inputs and outputs as a ModelSignature, and what cannot be served.

NodeArg.shape has an int for a fixed axis, and a name or None for a dynamic one. It is [] for a scalar and for an
unknown rank alike: ONNX Runtime doesn't tell them apart, nor does it check the rank of such an input.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from appliance.errors import InvalidArgument
from appliance.types import ModelKind, ModelSignature, TensorSpec

DATATYPES: dict[str, str] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
# What scikit-learn's ZipMap gives: for each row a map from class label to probability.
_ZIPMAP = re.compile(r"seq\(map\((int64|string),tensor\(float\)\)\)")


class Node(Protocol):
    """The part of onnxruntime.NodeArg that is used."""

    name: str
    type: str
    shape: Sequence[int | str | None]


def is_zipmap(node: Node) -> bool:
    """Whether the output is a ZipMap's, which is served as one FP32 tensor of [rows, classes]."""
    return _ZIPMAP.fullmatch(node.type) is not None


def signature(
    inputs: Sequence[Node],
    optional: Sequence[Node],
    outputs: Sequence[Node],
    labels: Mapping[str, tuple[str, ...]],
) -> ModelSignature:
    """The signature of a model; ``optional`` are inputs that have a default in the file, ``labels`` by output.

    Raises InvalidArgument MODEL_UNSUPPORTED for an input or output that the protocol cannot carry.
    """
    takes = tuple(_spec(n, "input", False, ()) for n in inputs)
    takes += tuple(_spec(n, "input", True, ()) for n in optional)
    gives = tuple(_spec(n, "output", False, labels.get(n.name, ())) for n in outputs)
    return ModelSignature(
        kind=ModelKind.TENSOR,
        platform="onnxruntime_onnx",
        inputs=takes,
        outputs=gives,
        batch_axis=_has_batch_axis(inputs, outputs),
    )


def _spec(node: Node, role: str, optional: bool, labels: tuple[str, ...]) -> TensorSpec:
    if role == "output" and is_zipmap(node):
        return TensorSpec(node.name, "FP32", (-1, len(labels) or -1), labels=labels)
    datatype = DATATYPES.get(node.type)
    if datatype is None:
        raise InvalidArgument(
            f"{role} {node.name!r} is a {node.type}: {_advice(node.type)}", reason="MODEL_UNSUPPORTED"
        )
    shape = tuple(axis if isinstance(axis, int) and axis >= 0 else -1 for axis in node.shape)
    return TensorSpec(node.name, datatype, shape, optional=optional, labels=labels)


def _advice(kind: str) -> str:
    if "map(" in kind:
        return "export the model with plain tensors (skl2onnx: options={'zipmap': False})"
    if kind.startswith("tensor("):
        return "the Open Inference Protocol has no such datatype; add a Cast to FP16 or FP32 at the model's border"
    return "only dense tensors can be served; add a node that turns it into a tensor (ConcatFromSequence, for one)"


def _has_batch_axis(inputs: Sequence[Node], outputs: Sequence[Node]) -> bool:
    """Whether rows of two requests may be put together: axis 0 is dynamic everywhere, and is the same one.

    Optional inputs don't count: a call that brings one runs alone. Names beginning with "unk__" are invented by shape
    inference and say nothing.
    """
    names: set[str] = set()
    for node in (*inputs, *outputs):
        if is_zipmap(node):
            continue
        if not node.shape or isinstance(node.shape[0], int):
            return False
        axis = node.shape[0]
        if axis and not axis.startswith("unk__"):
            names.add(axis)
    return bool(inputs) and len(names) <= 1
