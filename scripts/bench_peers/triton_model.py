"""Model of Triton's Python backend that runs an .onnx file, so that both servers of a comparison run the very same model.

tritonserver imports it in its own virtual environment, never the appliance. APPLIANCE_BENCH_ONNX names the file.
"""

import os
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped,unused-ignore]  # the peer's own environment has it
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found,unused-ignore]  # the server's own

BATCH_ROWS_MAX = 64
DATATYPES = {
    "tensor(float)": "TYPE_FP32", "tensor(double)": "TYPE_FP64", "tensor(int64)": "TYPE_INT64",
    "tensor(int32)": "TYPE_INT32", "tensor(uint8)": "TYPE_UINT8", "tensor(float16)": "TYPE_FP16",
}  # fmt: skip


def _session() -> Any:
    """One thread: a forest of this size gains nothing from more, and the cores are shared."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["APPLIANCE_BENCH_ONNX"], options)


def _open(axis: object) -> bool:
    return not isinstance(axis, int)


def _is_batchable(session: Any) -> bool:
    """Rows along an open axis 0 of every tensor. A lone open axis of an input is its length and not a batch."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return all(len(one.shape) > 1 and _open(one.shape[0]) for one in inputs) and all(
        one.shape and _open(one.shape[0]) for one in outputs
    )


def _described(argument: Any, batched: bool) -> dict[str, object]:
    # Beside the batch Triton wants at least one axis: _response adds it.
    dims = [-1 if _open(axis) else axis for axis in argument.shape[1 if batched else 0 :]] or [1]
    return {"name": argument.name, "data_type": DATATYPES[argument.type], "dims": dims}


class TritonPythonModel:
    """What the backend calls, by its own names."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Tensors as the file tells them, and Triton's dynamic batcher as it comes where rows can be put together."""
        session = _session()
        batched = _is_batchable(session)
        config.set_max_batch_size(BATCH_ROWS_MAX if batched else 0)
        if batched:
            config.set_dynamic_batching()
        for one in session.get_inputs():
            config.add_input(_described(one, batched))
        for one in session.get_outputs():
            config.add_output(_described(one, batched))
        return config

    def initialize(self, _args: dict[str, str]) -> None:
        """Open the session."""
        self._run = _session()
        self._batched = _is_batchable(self._run)
        self._inputs = [one.name for one in self._run.get_inputs()]
        self._outputs = [one.name for one in self._run.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """What the batcher has gathered in one run of the session, or one by one where rows can't be put together."""
        feeds = [
            {name: pb_utils.get_input_tensor_by_name(one, name).as_numpy() for name in self._inputs} for one in requests
        ]
        if len(feeds) == 1 or not self._batched:
            return [self._response(self._run.run(self._outputs, feed)) for feed in feeds]
        rows = [len(feed[self._inputs[0]]) for feed in feeds]
        whole = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        ends = np.cumsum(rows)
        results = self._run.run(self._outputs, whole)
        return [
            self._response([array[end - count : end] for array in results])
            for count, end in zip(rows, ends, strict=True)
        ]

    def _response(self, arrays: list[Any]) -> Any:
        if self._batched:
            arrays = [array if array.ndim > 1 else array.reshape(-1, 1) for array in arrays]
        tensors = [pb_utils.Tensor(name, array) for name, array in zip(self._outputs, arrays, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
