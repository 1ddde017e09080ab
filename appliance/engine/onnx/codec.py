"""Between a call's tensors and what ONNX Runtime takes and gives. Tables are made once, at load; a call looks up."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from appliance import limits
from appliance.calls import OutputWanted
from appliance.engine import arrays
from appliance.engine.arrays import NUMPY_TYPES, Array
from appliance.engine.onnx.columns import (
    ClassesColumn,
    Column,
    Cut,
    NumberColumn,
    StringColumn,
    ZipMapColumn,
)
from appliance.errors import ApplianceError, InvalidArgument, ResourceExhausted
from appliance.tensor_heads import TensorHead
from appliance.types import BYTES, Buffer, ModelSignature, Tensor, TensorSpec

Encoding = tuple[tuple[TensorHead, ...], Sequence[Buffer]]


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

    __slots__ = ("_columns", "names")

    def __init__(self, names: list[str], columns: list[Column]) -> None:
        self.names = names
        self._columns = columns

    def encode(self, values: Sequence[Any]) -> Encoding:
        """Heads and buffers of the outputs, in the order of ``names``; ``values`` behind these are not looked at.

        Raises ResourceExhausted when they are more than an answer can carry.
        """
        encoded = [column.whole(value) for column, value in zip(self._columns, values, strict=False)]
        heads, buffers = tuple([head for head, _ in encoded]), [buffer for _, buffer in encoded]
        too_large = _too_large(buffers)
        if too_large is not None:
            raise too_large
        return heads, buffers

    def encode_parts(self, outputs: Mapping[str, Any], cuts: Sequence[Cut]) -> list[Encoding | ApplianceError]:
        """The same for each call of a batch; ``outputs`` by name may be more than this plan's."""
        heads: list[list[TensorHead]] = []
        buffers: list[list[Buffer]] = []
        for name, column in zip(self.names, self._columns, strict=True):
            column_heads, column_buffers = column.parts(outputs[name], cuts)
            heads.append(column_heads)
            buffers.append(column_buffers)
        answers = zip(zip(*heads, strict=True), zip(*buffers, strict=True), strict=True)
        if _size(itertools.chain.from_iterable(buffers)) <= limits.frame_body_bytes_max:
            return list(answers)
        return [_too_large(answer[1]) or answer for answer in answers]


def _size(buffers: Iterable[Buffer]) -> int:
    return sum(map(len, buffers))


def _too_large(buffers: Sequence[Buffer]) -> ResourceExhausted | None:
    size = _size(buffers)
    if size <= limits.frame_body_bytes_max:
        return None
    return ResourceExhausted(
        f"the outputs have {size} bytes, an answer carries {limits.frame_body_bytes_max} at most: send less at once or"
        " ask for fewer outputs",
        reason="ANSWER_SIZE",
    )


class OutputCodec:
    """Makes and remembers the plan for each set of outputs that clients ask for.

    ``axes``: where the rows of a batch lie in each output. ``states``: outputs that a call within a sequence gets only
    when it names them.
    """

    def __init__(
        self,
        signature: ModelSignature,
        zipmaps: frozenset[str],
        axes: Mapping[str, int] | None = None,
        states: frozenset[str] = frozenset(),
    ) -> None:
        self._specs = {spec.name: spec for spec in signature.outputs}
        self._zipmaps = zipmaps
        self._batch_axis = signature.batch_axis
        self._axes = axes or {}
        self._plans: dict[tuple[OutputWanted, ...], OutputPlan] = {}
        self._all = self._make(tuple(OutputWanted(name) for name in self._specs))
        self._stateless = self._make(tuple(OutputWanted(name) for name in self._specs if name not in states))

    def plan(self, wanted: tuple[OutputWanted, ...], *, in_sequence: bool = False) -> OutputPlan:
        """The plan for ``wanted``, () meaning all outputs; InvalidArgument when the model has no such output."""
        if not wanted:
            return self._stateless if in_sequence else self._all
        plan = self._plans.get(wanted)
        if plan is None:
            # Where an output is to be put changes from call to call, and nothing here.
            wanted = tuple(OutputWanted(output.name, output.classification) for output in wanted)
            plan = self._plans.get(wanted)
        if plan is None:
            plan = self._make(wanted)
            if len(self._plans) < limits.output_plans_max:
                self._plans[wanted] = plan
        return plan

    def _make(self, wanted: tuple[OutputWanted, ...]) -> OutputPlan:
        columns = []
        for output in wanted:
            spec = self._specs.get(output.name)
            if spec is None:
                known = ", ".join(repr(n) for n in self._specs)
                raise InvalidArgument(
                    f"the model has no output {output.name!r}; it gives {known}", reason="TENSOR_NAME"
                )
            columns.append(self._column(spec, output.classification))
        return OutputPlan([output.name for output in wanted], columns)

    def _column(self, spec: TensorSpec, k: int) -> Column:
        zipmap, axis = spec.name in self._zipmaps, self._axes.get(spec.name, 0)
        if k > 0:
            return ClassesColumn(spec, k, zipmap, self._batch_axis, axis)
        if zipmap:
            return ZipMapColumn(spec)
        return StringColumn(spec.name, axis) if spec.datatype == BYTES else NumberColumn(spec, axis)
