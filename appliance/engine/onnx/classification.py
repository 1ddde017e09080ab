"""The protocol's classification extension: the k best of each row as BYTES "value:index[:label]".

As Triton writes them: "%f" for floats, "%d" for integers, best first, ties by the lower index.
"""

import numpy as np

from appliance.engine.arrays import Array, floats_from_bf16
from appliance.errors import InvalidArgument


def classify(array: Array, datatype: str, k: int, labels: tuple[str, ...], name: str) -> Array:
    """[..., classes] of numbers becomes [..., min(k, classes)] of ``str``; the last axis holds the classes.

    Raises InvalidArgument for an output that isn't numbers.
    """
    if datatype == "BYTES":
        raise InvalidArgument(
            f"output {name!r} holds BYTES, which have no order: ask for it without classification",
            reason="CLASSIFICATION",
        )
    values = _numbers(array if array.ndim else array.reshape(1), datatype)
    classes = values.shape[-1]
    best = _descending(values)[..., : min(k, classes)]
    chosen = np.take_along_axis(values, best, axis=-1)
    as_float = chosen.dtype.kind == "f"
    texts = np.empty(best.shape, dtype=object)
    for place, (value, index) in enumerate(zip(chosen.ravel().tolist(), best.ravel().tolist(), strict=True)):
        number = f"{value:f}" if as_float else f"{value:d}"
        label = f":{labels[index]}" if index < len(labels) else ""
        texts.flat[place] = f"{number}:{index}{label}"
    return texts


def _numbers(array: Array, datatype: str) -> Array:
    if datatype == "BF16":
        return floats_from_bf16(array)
    return array.view(np.uint8) if datatype == "BOOL" else array


def _descending(values: Array) -> Array:
    """Indices along the last axis, largest first, stable. NaN sorts last: it is nobody's best class."""
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), -np.inf, values)
    # A stable ascending sort of the mirrored row, mirrored back, is a stable descending one.
    mirrored: Array = np.argsort(values[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    indices: Array = values.shape[-1] - 1 - mirrored
    return indices
