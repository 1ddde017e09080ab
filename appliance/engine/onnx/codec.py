"""Between a call's tensors and what ONNX Runtime takes and gives. Tables are made once, at load; a call looks up."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from appliance import limits
from appliance.calls import OutputWanted
from appliance.engine import arrays
from appliance.engine.arrays import NUMPY_TYPES, Array
from appliance.engine.onnx.classification import classify
from appliance.errors import InternalError, InvalidArgument, ResourceExhausted
from appliance.tensor_heads import TensorHead
from appliance.types import BYTES, Buffer, ModelSignature, Tensor, TensorSpec

Encoded = tuple[TensorHead, Buffer]
Encoder = Callable[[Any], Encoded]


class InputCodec:
    """Turns the tensors of a call into ONNX Runtime's feed, checking what would otherwise fail inside it."""

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        self._specs = {spec.name: (spec, NUMPY_TYPES.get(spec.datatype)) for spec in inputs}
        self._required = frozenset(spec.name for spec in inputs if not spec.optional)

    def feed(self, tensors: Sequence[Tensor]) -> dict[str, Array]:
        """Input name -> array over the tensor's own bytes.

        Raises InvalidArgument for an unknown, missing or doubled name and a wrong datatype, shape or byte count.
        """
        feed: dict[str, Array] = {}
        for tensor in tensors:
            name = tensor.name
            known = self._specs.get(name)
            if known is None or name in feed:
                raise self._bad_name(name, name in feed)
            spec, dtype = known
            if tensor.datatype != spec.datatype:
                raise InvalidArgument(
                    f"input {name!r} is {spec.datatype}, not {tensor.datatype}", reason="TENSOR_DATATYPE"
                )
            if spec.shape and not _fits(tensor.shape, spec.shape):
                raise InvalidArgument(
                    f"input {name!r} has the shape {list(spec.shape)} (-1: any length), not {list(tensor.shape)}",
                    reason="TENSOR_SHAPE",
                )
            feed[name] = arrays.strings_from_tensor(tensor) if dtype is None else arrays.from_tensor(tensor, dtype)
        if not feed.keys() >= self._required:
            missing = ", ".join(sorted(repr(n) for n in self._required - feed.keys()))
            raise InvalidArgument(f"the request lacks the input {missing}", reason="TENSOR_MISSING")
        return feed

    def _bad_name(self, name: str, twice: bool) -> InvalidArgument:
        if twice:
            return InvalidArgument(f"the request has the input {name!r} twice", reason="TENSOR_NAME")
        known = ", ".join(repr(n) for n in self._specs)
        return InvalidArgument(f"the model has no input {name!r}; it takes {known}", reason="TENSOR_NAME")


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    for have, want in zip(shape, wanted, strict=True):  # noqa: SIM110  # all() of a generator takes twice as long
        if want not in (have, -1):
            return False
    return True


class OutputPlan:
    """Which outputs to compute and how to write each of them."""

    __slots__ = ("_encoders", "names")

    def __init__(self, names: list[str], encoders: list[Encoder]) -> None:
        self.names = names
        self._encoders = encoders

    def encode(self, values: Sequence[Any]) -> tuple[tuple[TensorHead, ...], list[Buffer]]:
        """Heads and buffers of the outputs, in the order of ``names``.

        Raises ResourceExhausted when they are more than an answer can carry.
        """
        heads, buffers, size = [], [], 0
        for encoder, value in zip(self._encoders, values, strict=True):
            head, buffer = encoder(value)
            heads.append(head)
            buffers.append(buffer)
            size += head.nbytes
        if size > limits.frame_body_bytes_max:
            raise ResourceExhausted(
                f"the outputs have {size} bytes, an answer carries {limits.frame_body_bytes_max} at most: send less at"
                " once or ask for fewer outputs",
                reason="ANSWER_SIZE",
            )
        return tuple(heads), buffers


class OutputCodec:
    """Makes and remembers the plan for each set of outputs that clients ask for."""

    def __init__(self, signature: ModelSignature, zipmaps: frozenset[str]) -> None:
        self._specs = {spec.name: spec for spec in signature.outputs}
        self._zipmaps = zipmaps
        self._batch_axis = signature.batch_axis
        self._plans: dict[tuple[OutputWanted, ...], OutputPlan] = {}
        self._all = self._make(tuple(OutputWanted(name) for name in self._specs))

    def plan(self, wanted: tuple[OutputWanted, ...]) -> OutputPlan:
        """The plan for ``wanted``, () meaning all outputs; InvalidArgument when the model has no such output."""
        if not wanted:
            return self._all
        plan = self._plans.get(wanted)
        if plan is None:
            plan = self._make(wanted)
            if len(self._plans) < limits.output_plans_max:
                self._plans[wanted] = plan
        return plan

    def _make(self, wanted: tuple[OutputWanted, ...]) -> OutputPlan:
        encoders = []
        for output in wanted:
            spec = self._specs.get(output.name)
            if spec is None:
                known = ", ".join(repr(n) for n in self._specs)
                raise InvalidArgument(
                    f"the model has no output {output.name!r}; it gives {known}", reason="TENSOR_NAME"
                )
            encoders.append(self._encoder(spec, output.classification))
        return OutputPlan([output.name for output in wanted], encoders)

    def _encoder(self, spec: TensorSpec, k: int) -> Encoder:
        zipmap = spec.name in self._zipmaps
        if k > 0:
            return _classes_encoder(spec, k, zipmap, self._batch_axis)
        if zipmap:
            return lambda rows: _numbers(spec.name, spec.datatype, zipmap_array(rows, spec))
        if spec.datatype == BYTES:
            return lambda array: _strings(spec.name, array)
        name, datatype = spec.name, spec.datatype
        return lambda array: _numbers(name, datatype, array)


def _numbers(name: str, datatype: str, array: Array) -> Encoded:
    buffer = arrays.to_buffer(array)
    return TensorHead(name, datatype, array.shape, len(buffer)), buffer


def _strings(name: str, array: Array) -> Encoded:
    buffer = arrays.encode_elements(array.ravel().tolist())
    return TensorHead(name, BYTES, array.shape, len(buffer)), buffer


def _classes_encoder(spec: TensorSpec, k: int, zipmap: bool, batch_axis: bool) -> Encoder:
    def encode(value: Any) -> Encoded:
        array: Array = zipmap_array(value, spec) if zipmap else value
        if batch_axis and array.ndim == 1:
            array = array.reshape(-1, 1)  # one number for each row of the batch
        return _strings(spec.name, classify(array, spec.datatype, k, spec.labels, spec.name))

    if spec.datatype == BYTES:
        classify(np.empty(0), BYTES, k, (), spec.name)  # refuse it now rather than after the model ran
    return encode


def zipmap_labels(rows: Sequence[dict[Any, float]]) -> tuple[Any, ...]:
    """The class labels of a ZipMap's answer in sorted order, as it has them (int or str)."""
    return tuple(sorted(rows[0])) if rows else ()


def zipmap_array(rows: Sequence[dict[Any, float]], spec: TensorSpec) -> Array:
    """A ZipMap's list of {label: probability} as FP32 [rows, classes], classes in sorted order of their labels."""
    labels = zipmap_labels(rows)
    try:
        numbers = [[row[label] for label in labels] for row in rows]
    except KeyError:
        raise InternalError(f"output {spec.name!r}: the model's rows don't have the same classes") from None
    return np.array(numbers, np.float32).reshape(len(rows), len(labels) or max(spec.shape[1], 0))
