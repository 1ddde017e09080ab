"""Whether a request fits the model's signature: names, datatypes, shapes and lengths. Pure, no protobuf.

Each message names the tensor, what came and what was expected: whoever reads it has only that.
"""

from collections.abc import Sequence
from math import prod

from appliance import limits
from appliance.calls import OutputWanted
from appliance.errors import InvalidArgument
from appliance.serve import bytes_tensor
from appliance.tensor_heads import TensorHead
from appliance.types import BYTES, DATATYPE_BYTES, Buffer, ModelSignature, TensorSpec


def quote(name: str) -> str:
    """A client's own word, cut to what a message can bear."""
    return f"'{name}'" if len(name) <= limits.quoted_chars_max else f"'{name[: limits.quoted_chars_max]}...'"


class Plan:
    """A signature made ready for checking; built once for each engine that is loaded."""

    __slots__ = ("inputs", "model", "outputs", "required", "signature")

    def __init__(self, model: str, signature: ModelSignature) -> None:
        self.model = model
        self.signature = signature
        self.inputs = {spec.name: spec for spec in signature.inputs}
        self.required = frozenset(spec.name for spec in signature.inputs if not spec.optional)
        self.outputs = {spec.name: spec for spec in signature.outputs}


def check_inputs(plan: Plan, heads: Sequence[TensorHead], buffers: Sequence[Buffer]) -> None:
    """Raises InvalidArgument unless ``heads`` (with their bytes in ``buffers``) are what the model takes."""
    names = set()
    for head, data in zip(heads, buffers, strict=True):
        spec = plan.inputs.get(head.name)
        if spec is None:
            raise InvalidArgument(
                f"model '{plan.model}' has no input {quote(head.name)}; it takes {_list(plan.inputs)}",
                reason="INPUT_UNKNOWN",
            )
        if head.name in names:
            raise InvalidArgument(f"input {quote(head.name)} is given twice", reason="INPUT_DUPLICATE")
        names.add(head.name)
        _check_datatype(plan, spec, head.datatype)
        _check_data(plan, head, data, _check_shape(plan, spec, head.shape))
    if not plan.required <= names:
        missing = [name for name in plan.inputs if name in plan.required and name not in names]
        raise InvalidArgument(
            f"model '{plan.model}' expects {len(plan.required)} inputs, {len(names)} came: missing {_list(missing)}",
            reason="INPUT_MISSING",
        )


def _check_datatype(plan: Plan, spec: TensorSpec, datatype: str) -> None:
    if datatype != spec.datatype:
        known = "" if datatype in DATATYPE_BYTES or datatype == BYTES else ", which is no datatype of the protocol"
        raise InvalidArgument(
            f"input '{spec.name}' of model '{plan.model}' has datatype {quote(datatype)}{known}, "
            f"expected {spec.datatype}",
            reason="DATATYPE",
        )


def _check_shape(plan: Plan, spec: TensorSpec, shape: tuple[int, ...]) -> int:
    """Returns how many elements ``shape`` has."""
    fits = len(shape) == len(spec.shape)
    if fits:
        for got, want in zip(shape, spec.shape, strict=True):
            if got < 0 or want not in (got, -1):
                fits = False
                break
    if not fits:
        raise InvalidArgument(
            f"input '{spec.name}' of model '{plan.model}' has shape {_shape(shape)}, expected {_shape(spec.shape)}"
            f"{' (-1: any length)' if -1 in spec.shape else ''}",
            reason="SHAPE",
        )
    count = prod(shape)
    if count > limits.tensor_elements_max:
        raise InvalidArgument(
            f"input '{spec.name}' of model '{plan.model}' has shape {_shape(shape)}, which is {count} elements, "
            f"more than the bound of {limits.tensor_elements_max}",
            reason="SHAPE",
        )
    return count


def _check_data(plan: Plan, head: TensorHead, data: Buffer, count: int) -> None:
    if head.region > 0:
        _check_size(plan, head, count, head.nbytes)
        return  # its bytes are the engine's to check: they may change until it has its copy
    if head.datatype == BYTES:
        try:
            bytes_tensor.check(data, count)
        except bytes_tensor.BadBytesTensor as error:
            raise InvalidArgument(
                f"input '{head.name}' of model '{plan.model}' is not a valid BYTES tensor of shape "
                f"{_shape(head.shape)}: {error}",
                reason="BYTES_TENSOR",
            ) from None
        return
    _check_size(plan, head, count, len(data))
    if head.datatype == "BOOL" and bytes(data).translate(None, b"\x00\x01"):
        raise InvalidArgument(
            f"input '{head.name}' of model '{plan.model}' is BOOL but holds bytes other than 0 and 1", reason="DATA"
        )


def _check_size(plan: Plan, head: TensorHead, count: int, nbytes: int) -> None:
    if head.datatype == BYTES:
        return
    expected = count * DATATYPE_BYTES[head.datatype]
    if nbytes != expected:
        raise InvalidArgument(
            f"input '{head.name}' of model '{plan.model}' holds {nbytes} bytes, "
            f"expected {expected} for {head.datatype} {_shape(head.shape)}",
            reason="DATA_LENGTH",
        )


def check_outputs(plan: Plan, wanted: Sequence[OutputWanted]) -> None:
    """Raises InvalidArgument unless the model has all of the outputs that are asked for, each once."""
    names = set()
    for output in wanted:
        if output.name not in plan.outputs:
            raise InvalidArgument(
                f"model '{plan.model}' has no output {quote(output.name)}; it gives {_list(plan.outputs)}",
                reason="OUTPUT_UNKNOWN",
            )
        if output.name in names:
            raise InvalidArgument(f"output {quote(output.name)} is asked for twice", reason="OUTPUT_DUPLICATE")
        names.add(output.name)


def check_request_id(request_id: str) -> None:
    """Raises InvalidArgument for an id that is too long to be echoed and logged."""
    if len(request_id) > limits.request_id_chars_max:
        raise InvalidArgument(
            f"the request id has {len(request_id)} characters, at most {limits.request_id_chars_max} are allowed",
            reason="REQUEST_ID",
        )


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(axis) for axis in shape) + "]"


def _list(names: Sequence[str] | dict[str, TensorSpec]) -> str:
    shown = [f"'{name}'" for name in list(names)[:16]]
    return ", ".join(shown) + (f" and {len(names) - 16} more" if len(names) > 16 else "") if shown else "none"
