"""Inputs that nobody sent: zeros to warm a model up with, and seeded random ones to try out batches."""

from typing import Any

import numpy as np

from appliance.engine.arrays import NUMPY_TYPES, Array, bf16_from_floats
from appliance.engine.onnx.batch_axes import BatchAxes
from appliance.types import ModelSignature, TensorSpec

_WORDS = np.array(["", "a", "b"], dtype=object)


def synthetic_feed(signature: ModelSignature, rows: int) -> dict[str, Array]:
    """Zeros and empty strings for every input that must be given, dynamic axes ``rows`` long."""
    feed: dict[str, Array] = {}
    for spec in signature.inputs:
        if spec.optional:
            continue
        shape = tuple(rows if axis == -1 else axis for axis in spec.shape)
        dtype = NUMPY_TYPES.get(spec.datatype)
        feed[spec.name] = np.full(shape, "", dtype=object) if dtype is None else np.zeros(shape, dtype)
    return feed


def random_feed(
    signature: ModelSignature, axes: BatchAxes, rows: int, length: int, dice: np.random.Generator, scale: float
) -> dict[str, Array]:
    """Like real inputs, as far as anybody can know: dynamic axes ``length`` long, the rows' ``rows``.

    Floats are normal with a deviation of ``scale``. Integers are 0 or 1: good as counts, categories, masks and indices.
    """
    feed: dict[str, Array] = {}
    for spec in signature.inputs:
        axis = axes.inputs[spec.name]
        # Optional inputs have defaults, but for states, without which nothing runs.
        if spec.optional and axis < 0:
            continue
        shape = tuple(rows if at == axis else length if fixed == -1 else fixed for at, fixed in enumerate(spec.shape))
        feed[spec.name] = _random(spec, shape, dice, scale)
    return feed


def _random(spec: TensorSpec, shape: tuple[int, ...], dice: np.random.Generator, scale: float) -> Array:
    dtype: np.dtype[Any] | None = NUMPY_TYPES.get(spec.datatype)
    if dtype is None:
        return np.asarray(_WORDS[dice.integers(0, len(_WORDS), shape)], dtype=object).reshape(shape)
    if spec.datatype == "BF16":
        return bf16_from_floats(dice.normal(0.0, scale, shape).astype(np.float32))
    if dtype.kind == "f":
        return np.asarray(dice.normal(0.0, scale, shape), dtype).reshape(shape)
    return np.asarray(dice.integers(0, 2, shape), dtype).reshape(shape)
