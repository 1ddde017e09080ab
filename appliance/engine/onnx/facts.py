"""What model.toml adds to the signature that the ONNX files tell: units and thresholds, and which inputs are states."""

from collections.abc import Sequence

import msgspec

from appliance.engine.onnx.states import State
from appliance.errors import InvalidArgument
from appliance.model_spec import OnnxOptions, OutputFacts
from appliance.types import ModelSignature, TensorSpec

_NO_FACTS = OutputFacts()


def with_facts(signature: ModelSignature, options: OnnxOptions, states: Sequence[State]) -> ModelSignature:
    """The signature that clients see: states need not be given, and outputs say what they mean.

    Raises InvalidArgument MODEL_FILE when onnx.outputs names one that the model doesn't give.
    """
    known = {tensor.name for tensor in signature.outputs}
    for name in options.outputs:
        if name not in known:
            gives = ", ".join(repr(tensor.name) for tensor in signature.outputs)
            raise InvalidArgument(f"onnx.outputs names {name!r}; the model gives {gives}", reason="MODEL_FILE")
    kept = {state.input for state in states}
    return msgspec.structs.replace(
        signature,
        inputs=tuple(
            msgspec.structs.replace(tensor, optional=True) if tensor.name in kept else tensor
            for tensor in signature.inputs
        ),
        outputs=tuple(_meaning(tensor, options) for tensor in signature.outputs),
        sequences=bool(states),
    )


def _meaning(tensor: TensorSpec, options: OnnxOptions) -> TensorSpec:
    facts = options.outputs.get(tensor.name, _NO_FACTS)
    return msgspec.structs.replace(
        tensor,
        unit=facts.unit,
        threshold=facts.threshold,
        description=facts.description,
        labels_file=options.labels.get(tensor.name, ""),
    )
