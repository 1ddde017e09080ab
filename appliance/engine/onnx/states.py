"""The tensors that a sequence carries from one call to the next: what model.toml says of them held against the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from appliance import limits
from appliance.engine import arrays
from appliance.engine.arrays import NUMPY_TYPES, Array
from appliance.engine.model_files import listed_file
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec, SequenceState
from appliance.types import BYTES, ModelSignature, TensorSpec


class State(NamedTuple):
    """One of them. ``shape`` is the input's; -1 in ``batch_axis``: the tensor has no rows. ``first``: of one row."""

    input: str
    output: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    batch_axis: int
    first: Array | None

    def fresh(self, rows: int) -> Array:
        """What the first call of a sequence of ``rows`` rows gets."""
        shape = self.shape_of(rows)
        if self.first is None:
            return np.zeros(shape, self.dtype)
        return self.first if self.first.shape == shape else np.repeat(self.first, rows, self.batch_axis)

    def shape_of(self, rows: int) -> tuple[int, ...]:
        """The shape of the first state; the axes that the model leaves open are the file's, but for the rows'."""
        shape = list(self.shape if self.first is None else self.first.shape)
        if self._counts_rows:
            shape[self.batch_axis] = rows
        return tuple(shape)

    def nbytes(self, rows: int) -> int:
        """Bytes of the first state."""
        # Not numpy's product: it wraps around, and the rows are a client's.
        size = self.dtype.itemsize
        for axis in self.shape_of(rows):
            size *= axis
        return size

    def takes(self, shape: tuple[int, ...], rows: int) -> bool:
        """Whether an output of this shape can be the input of the next call."""
        wanted = list(self.shape)
        if self._counts_rows:
            wanted[self.batch_axis] = rows
        return len(shape) == len(wanted) and all(w in (h, -1) for h, w in zip(shape, wanted, strict=True))

    @property
    def batchable(self) -> bool:
        """Whether the states of two sequences can be put together: they differ in nothing but their rows."""
        return self._counts_rows and self.shape.count(-1) == 1

    @property
    def _counts_rows(self) -> bool:
        return self.batch_axis >= 0 and self.shape[self.batch_axis] == -1


class RowsOf(NamedTuple):
    """Where a call says how many rows it has: an input and its axis; "" for a model that has one number of rows."""

    input: str = ""
    axis: int = 0

    def count(self, feed: Mapping[str, Array]) -> int:
        """Rows of a call with these inputs."""
        array = feed.get(self.input)
        return 1 if array is None or array.ndim <= self.axis else array.shape[self.axis]


def make_states(spec: ModelSpec, folder: Path, signature: ModelSignature) -> tuple[State, ...]:
    """The states that model.toml names, none for most models.

    Raises InvalidArgument MODEL_FILE where they don't fit the model, or a file doesn't fit its state.
    """
    inputs = {t.name: t for t in signature.inputs}
    outputs = {t.name: t for t in signature.outputs}
    made = []
    for index, told in enumerate(spec.onnx.sequence.states):
        where = f"onnx.sequence.states[{index}]"
        takes = _known(f"{where}.input", told.input, inputs)
        gives = _known(f"{where}.output", told.output, outputs)
        _check_pair(where, told, takes, gives)
        dtype = NUMPY_TYPES[takes.datatype]
        first = _first(where, told, takes, spec, folder) if told.initial else None
        if first is None and any(axis == -1 for place, axis in enumerate(takes.shape) if place != told.batch_axis):
            raise _misfit(
                f"{where}: input {told.input!r} has the shape {list(takes.shape)}, of which only the axis of the rows"
                " may be open; give the first state in a file (initial)"
            )
        made.append(State(told.input, told.output, takes.shape, dtype, told.batch_axis, first))
    return tuple(made)


def rows_of(spec: ModelSpec, signature: ModelSignature, states: Sequence[State]) -> RowsOf:
    """The first input that is no state and has an open axis of rows."""
    kept = {state.input for state in states}
    for tensor in signature.inputs:
        axis = spec.onnx.batch_axes.get(tensor.name, 0)
        counts = 0 <= axis < len(tensor.shape) and tensor.shape[axis] == -1
        if counts and tensor.name not in kept and not tensor.optional:
            return RowsOf(tensor.name, axis)
    return RowsOf()


def _known(where: str, name: str, tensors: dict[str, TensorSpec]) -> TensorSpec:
    if name not in tensors:
        raise _misfit(f"{where}: the model has no {name!r}; it has {', '.join(map(repr, tensors))}")
    return tensors[name]


def _check_pair(where: str, told: SequenceState, takes: TensorSpec, gives: TensorSpec) -> None:
    pair = f"input {told.input!r} is {takes.datatype} {list(takes.shape)}"
    pair += f", output {told.output!r} is {gives.datatype} {list(gives.shape)}"
    if takes.datatype != gives.datatype:
        raise _misfit(f"{where}: {pair}: one can't become the other; add a Cast to the model")
    if takes.datatype == BYTES:
        raise _misfit(f"{where}: {pair}: a state holds numbers")
    # ONNX Runtime shows an output whose rank nobody knows as [], like a scalar.
    if gives.shape and (
        len(takes.shape) != len(gives.shape)
        or any(-1 not in (a, b) and a != b for a, b in zip(takes.shape, gives.shape, strict=True))
    ):
        raise _misfit(f"{where}: {pair}: the shapes don't fit together")
    if told.batch_axis >= len(takes.shape):
        raise _misfit(f"{where}.batch_axis: {told.batch_axis} is no axis of {pair.partition(', output')[0]}")


def _first(where: str, told: SequenceState, takes: TensorSpec, spec: ModelSpec, folder: Path) -> Array:
    path = listed_file(spec, folder, told.initial, "state")
    if path.stat().st_size > limits.sequence_initial_bytes_max:
        raise _misfit(f"{where}.initial: {told.initial!r} has more than {limits.sequence_initial_bytes_max} bytes")
    try:
        # Mapped, so that a header that lies about its shape allocates nothing, and a pickle, which could run code, fails.
        mapped: Array = np.lib.format.open_memmap(path, mode="r")  # type: ignore[no-untyped-call,unused-ignore]  # numpy 2.2
        array: Array = np.array(mapped, order="C")
    except (OSError, ValueError, TypeError, EOFError):
        raise _misfit(f"{where}.initial: {told.initial!r} is not a .npy file of numbers") from None
    if takes.datatype == "BF16" and array.dtype == np.float32:
        array = arrays.bf16_from_floats(array)
    if array.dtype != NUMPY_TYPES[takes.datatype]:
        raise _misfit(
            f"{where}.initial: {told.initial!r} holds {array.dtype}, input {told.input!r} is {takes.datatype}"
        )
    wanted = list(takes.shape)
    if told.batch_axis >= 0 and wanted[told.batch_axis] == -1:
        wanted[told.batch_axis] = 1
    if array.ndim != len(wanted) or any(w not in (h, -1) for h, w in zip(array.shape, wanted, strict=True)):
        raise _misfit(
            f"{where}.initial: {told.initial!r} has the shape {list(array.shape)}, one row of input {told.input!r} has"
            f" {wanted}"
        )
    array.setflags(write=False)
    return array


def _misfit(message: str) -> InvalidArgument:
    return InvalidArgument(f"model.toml: {message}", reason="MODEL_FILE")
