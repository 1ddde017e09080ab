"""Running a session: on numpy arrays, or on OrtValues where BF16, which numpy doesn't know, is among the tensors."""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from appliance.engine.arrays import Array
from appliance.errors import InvalidArgument
from appliance.types import BYTES, ModelSignature

Runner = Callable[[list[str], dict[str, Array]], Sequence[Any]]

_ONNX_BFLOAT16 = 16  # TensorProto.DataType.BFLOAT16


def make_runner(session: ort.InferenceSession, signature: ModelSignature, zipmaps: frozenset[str]) -> Runner:
    """A function (output names, feed) -> values: arrays, BF16 ones as uint16, or a ZipMap's list of maps.

    Raises InvalidArgument MODEL_UNSUPPORTED for the mixtures that ONNX Runtime's Python interface cannot carry.
    """
    bf16 = frozenset(t.name for t in signature.inputs if t.datatype == "BF16")
    plain_run: Runner = session.run
    if not any(t.datatype == "BF16" for t in signature.outputs):
        return (lambda names, feed: plain_run(names, _with_values(feed, bf16))) if bf16 else plain_run
    # Only run_with_ort_values gives BF16 back; it takes no strings, and no maps come out of it.
    if zipmaps or any(t.datatype == BYTES for t in signature.inputs):
        raise InvalidArgument(
            "the model has BF16 outputs beside string inputs or maps, which can't be served together;"
            " add a Cast of the BF16 outputs to FP32",
            reason="MODEL_UNSUPPORTED",
        )

    def run(names: list[str], feed: dict[str, Array]) -> Sequence[Any]:
        values = {name: _to_value(array, name in bf16) for name, array in feed.items()}
        return [_from_value(value) for value in session.run_with_ort_values(names, values)]

    return run


def _with_values(feed: dict[str, Array], bf16: frozenset[str]) -> dict[str, Any]:
    return {name: _to_value(array, True) if name in bf16 else array for name, array in feed.items()}


def _to_value(array: Array, bf16: bool) -> ort.OrtValue:
    if bf16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, _ONNX_BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(array)


def _from_value(value: ort.OrtValue) -> Array:
    if value.element_type() != _ONNX_BFLOAT16:
        return np.array(value.numpy())  # a copy: the view would not keep the value alive
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes()) if 0 not in value.shape() else b""
    return np.frombuffer(data, np.uint16).reshape(tuple(value.shape()))
