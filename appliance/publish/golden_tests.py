"""Golden tests out of held-back rows: what a client would send, and what the original model says of it.

So they prove the export, and later every box that loads it.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from appliance.publish.estimators import Numbers, Predictions
from appliance.publish.split import Group
from appliance.publish.table import Array

# Up to here a person can read them in model.toml.
_INLINE_ELEMENTS_MAX = 32
_DATATYPES = {"float32": "FP32", "int64": "INT64", "object": "BYTES"}


def outputs(predictions: Predictions, classes: Sequence[int | str], output: str) -> dict[str, Array]:
    """The tensors that the ONNX file must give, all rows: ``output`` [rows, 1], or label [rows] and probabilities."""
    if isinstance(predictions, Numbers):
        return {output: predictions.values.astype(np.float32)[:, None]}
    texts = any(isinstance(c, str) for c in classes)
    values = np.array([str(c) if texts else c for c in classes], object if texts else np.int64)
    return {"label": values[predictions.labels], "probabilities": predictions.probabilities.astype(np.float32)}


def tests(
    groups: Sequence[Group],
    feed: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: tuple[float, float],
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """The [[golden]] tables of model.toml, and the .npy files that they name."""
    tables: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    for number, group in enumerate(groups):
        picked = list(group.rows)
        test: dict[str, Any] = {
            "name": group.name,
            "tolerance": {"absolute": tolerance[0], "relative": tolerance[1]},
            "inputs": {},
            "outputs": {},
        }
        for side, arrays in (("inputs", feed), ("outputs", expected)):
            for place, (name, array) in enumerate(arrays.items()):
                # Names of columns may be anything; those of files are ours.
                path = f"golden/{number}-{side[:-1]}-{place}.npy"
                test[side][name], more = _tensor(array[picked], path)
                files |= more
        tables.append(test)
    return tables, files


def _tensor(array: Array, path: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    told = {"datatype": _DATATYPES[array.dtype.name]}
    # A .npy of texts would need a fixed width, which swallows zeros at their ends.
    if array.size <= _INLINE_ELEMENTS_MAX or array.dtype == object:
        return told | {"shape": list(array.shape), "data": _plain(array)}, {}
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    return told | {"file": path}, {path: file.getvalue()}


def _plain(array: Array) -> list[Any]:
    """FP32 with as many digits as tell it from its neighbours, which read better than the seventeen of a double."""
    if array.dtype == np.float32:
        return [float(str(item)) for item in array.ravel()]
    items: list[Any] = array.ravel().tolist()
    return items
