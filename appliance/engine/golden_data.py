"""The tensors of golden tests: from model.toml's lists or .npy files to numpy arrays, and how near two of them are."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from appliance import limits
from appliance.engine import arrays
from appliance.engine.arrays import NUMPY_TYPES, Array
from appliance.engine.model_files import listed_file
from appliance.errors import InvalidArgument
from appliance.model_spec import GoldenTensor, ModelSpec, Tolerance
from appliance.types import BYTES, Tensor, TensorSpec


def read_golden(golden: GoldenTensor, told: TensorSpec, spec: ModelSpec, folder: Path, where: str) -> Array:
    """The array of ``golden``: ``str`` objects for BYTES, FP32 for BF16, else its datatype's numpy type.

    ``told`` is what the model says of the tensor: its datatype where the test names none, and its shape where the test
    leaves it out. Raises InvalidArgument GOLDEN_INVALID, naming ``where``.
    """
    datatype = golden.datatype or told.datatype
    if datatype != told.datatype:
        raise _invalid(f"{where}: the model's {told.name!r} is {told.datatype}, the test says {datatype}")
    if (golden.data is None) == (not golden.file):
        raise _invalid(f"{where}: give either data or file")
    try:
        if golden.file:
            raw = _read_npy(golden.file, spec, folder, where)
        elif datatype == BYTES:
            raw = np.array([_text(item) for item in golden.data or []], dtype=object)
        else:
            raw = np.array(golden.data, _number_type(datatype))
        array = raw if datatype == BYTES else raw.astype(_number_type(datatype), copy=False)
        return array.reshape(_shape(golden, told, raw))
    except (ValueError, TypeError, OverflowError) as error:
        raise _invalid(f"{where}: not {datatype} of shape {list(golden.shape or told.shape)}: {error}") from None


def _number_type(datatype: str) -> np.dtype[Any]:
    if datatype not in NUMPY_TYPES:
        raise ValueError(f"there is no datatype {datatype}")
    return np.dtype(np.float32) if datatype == "BF16" else NUMPY_TYPES[datatype]


def _text(item: object) -> str:
    if not isinstance(item, str):
        raise TypeError(f"{item!r} is no string")
    return item


def _read_npy(name: str, spec: ModelSpec, folder: Path, where: str) -> Array:
    path = listed_file(spec, folder, name, "golden")
    if path.stat().st_size > limits.golden_file_bytes_max:
        raise _invalid(f"{where}: {name!r} has more than {limits.golden_file_bytes_max} bytes")
    # Mapped, so that a header that lies about its shape allocates nothing, and a pickle, which could run code, fails.
    loaded: Array = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call,unused-ignore]  # numpy 2.2
    array: Array = np.ascontiguousarray(loaded).reshape(loaded.shape)
    if array.dtype.kind in "US":
        texts = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
        array = np.array(texts, dtype=object).reshape(array.shape)
    return array


def _shape(golden: GoldenTensor, told: TensorSpec, raw: Array) -> tuple[int, ...]:
    """The shape that the test gives, the file has, or the model has with its one dynamic axis filled in."""
    if golden.shape is not None:
        return golden.shape
    if golden.file or len(told.shape) <= 1:
        return raw.shape
    dynamic = told.shape.count(-1)
    known = math.prod(axis for axis in told.shape if axis != -1)
    if dynamic > 1 or known == 0:
        raise ValueError("the model's shape has several dynamic axes; give shape")
    return tuple(raw.size // known if axis == -1 else axis for axis in told.shape)


def input_tensor(name: str, datatype: str, array: Array) -> Tensor:
    """The tensor that a client would send."""
    return arrays.to_tensor(name, datatype, arrays.bf16_from_floats(array) if datatype == "BF16" else array)


def output_array(tensor: Tensor) -> Array:
    """The array of an answer, in the types of ``read_golden``."""
    if tensor.datatype == BYTES:
        return arrays.strings_from_tensor(tensor)
    array = arrays.from_tensor(tensor, NUMPY_TYPES[tensor.datatype])
    return arrays.floats_from_bf16(array) if tensor.datatype == "BF16" else array


def first_difference(got: Array, expected: Array, tolerance: Tolerance) -> tuple[int, ...] | None:
    """The index of the first element that is not near enough, None when all are.

    Floats: |got - expected| <= absolute + relative * |expected|, NaN equals NaN, infinities are equal to themselves.
    Everything else: equal.
    """
    if got.dtype.kind == "f":
        wide, aim = got.astype(np.float64), expected.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.abs(wide - aim) <= tolerance.absolute + tolerance.relative * np.abs(aim)
        # inf <= inf would let anything pass where infinity is expected.
        near &= np.isfinite(aim)
        wrong = ~(near | (wide == aim) | (np.isnan(wide) & np.isnan(aim)))
    else:
        wrong = got != expected
    found = np.argwhere(wrong)
    return tuple(int(i) for i in found[0]) if len(found) else None


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="GOLDEN_INVALID")
