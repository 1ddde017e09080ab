"""What the ONNX file says of rows, through ONNX Runtime in this process, in the terms of the estimator's predictions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from appliance.errors import FailedPrecondition
from appliance.publish.convert import Inputs
from appliance.publish.estimators import Choices, Numbers, Predictions
from appliance.publish.table import Array, Table

_ROWS_AT_ONCE = 4096
_LOG_FATAL = 4


def predict(model: bytes, inputs: Inputs, rows: Table, classes: Sequence[int | str] | None) -> Predictions:
    """All rows, some thousand at once. Raises FailedPrecondition ONNX when the runtime can't load or run the file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = _LOG_FATAL
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        with np.errstate(over="ignore"):  # what is too large for FP32 is infinite there, and the comparison tells
            pieces = [
                session.run(None, inputs.feed(rows.take(range(start, min(start + _ROWS_AT_ONCE, rows.rows)))))
                for start in range(0, rows.rows, _ROWS_AT_ONCE)
            ]
    except Exception as error:  # the runtime's exceptions have no base of their own
        raise FailedPrecondition(
            f"ONNX Runtime refuses the exported file: {str(error)[:800]}", reason="ONNX"
        ) from error
    said = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    if classes is None:
        return Numbers(_column(said, rows.rows))
    index = {value: i for i, value in enumerate(classes)}
    labels = np.array([index.get(_plain(item), -1) for item in said[0].ravel().tolist()], np.int64)
    probabilities = said[1].astype(np.float64)
    if probabilities.shape != (rows.rows, len(classes)):
        raise FailedPrecondition(
            f"the exported file gives probabilities of the shape {list(probabilities.shape)} for {rows.rows} rows and"
            f" {len(classes)} classes",
            reason="ONNX",
        )
    return Choices(labels, probabilities)


def _column(said: Sequence[Array], rows: int) -> Array:
    if len(said) != 1 or said[0].size != rows:
        shapes = ", ".join(str(list(array.shape)) for array in said)
        raise FailedPrecondition(
            f"the exported file gives {shapes} for {rows} rows, one number a row was expected", reason="ONNX"
        )
    return said[0].ravel().astype(np.float64)


def _plain(item: Any) -> int | str:
    return item if isinstance(item, str) else int(item)
