"""MLServer custom runtime that runs an .onnx file, so that both servers of a comparison run the very same model.

It is imported by MLServer in its own virtual environment, never by the appliance.
"""

import onnxruntime  # type: ignore[import-untyped,unused-ignore]  # the peer's own environment has it
from mlserver import MLModel  # type: ignore[import-not-found,unused-ignore]  # as above
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found,unused-ignore]  # as above
from mlserver.types import (  # type: ignore[import-not-found,unused-ignore]  # as above
    InferenceRequest,
    InferenceResponse,
    MetadataTensor,
)

DATATYPES = {"tensor(float)": "FP32", "tensor(double)": "FP64", "tensor(int64)": "INT64", "tensor(int32)": "INT32"}


def _tensor(argument: onnxruntime.NodeArg) -> MetadataTensor:
    shape = [axis if isinstance(axis, int) else -1 for axis in argument.shape]
    return MetadataTensor(name=argument.name, datatype=DATATYPES.get(argument.type, "FP32"), shape=shape)


class OnnxModel(MLModel):  # type: ignore[misc,unused-ignore]  # mlserver is not installed where mypy runs
    """One session with one thread: a forest of this size gains nothing from more, and the cores are shared."""

    async def load(self) -> bool:
        """Open the session; True when ready, as MLServer wants it."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(self.settings.parameters.uri, options)
        self.inputs = [_tensor(argument) for argument in self._session.get_inputs()]
        self.outputs = [_tensor(argument) for argument in self._session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run the request's inputs through the session, all outputs back."""
        feed = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        results = self._session.run(None, feed)
        outputs = [
            NumpyCodec.encode_output(meta.name, array) for meta, array in zip(self.outputs, results, strict=True)
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
