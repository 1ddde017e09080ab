"""One output of a model, written for the wire: of a call that ran alone, or of each of the calls of a batch.

A column is made once for each way in which clients ask for an output. ``axis`` is that of a batch's rows, -1: there is
none, and every call of a batch gets the whole.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from appliance import limits
from appliance.engine import arrays
from appliance.engine.arrays import Array
from appliance.engine.onnx.classification import classify
from appliance.errors import InternalError
from appliance.tensor_heads import TensorHead
from appliance.types import BYTES, Buffer, TensorSpec

Encoded = tuple[TensorHead, Buffer]
# The heads and the buffers of the calls of a batch, in their order.
Parts = tuple[list[TensorHead], list[Buffer]]
# Where the rows of a call begin and end in its batch.
Cut = tuple[int, int]
# Up to here a batch's rows are copied out of one ``bytes``, beyond out of the array's own memory.
_COPY_BYTES_MAX = 8192


class Column(Protocol):
    """How the runtime's value of an output becomes a tensor of the answer."""

    def whole(self, value: Any) -> Encoded:
        """All of it."""
        ...

    def parts(self, value: Any, cuts: Sequence[Cut]) -> Parts:
        """The rows of each call."""
        ...


class NumberColumn:
    """Numbers, as they lie in memory."""

    def __init__(self, spec: TensorSpec, axis: int) -> None:
        self._name = spec.name
        self._datatype = spec.datatype
        self._axis = axis
        self._heads: dict[tuple[int, ...], TensorHead] = {}

    def whole(self, value: Array) -> Encoded:
        buffer = arrays.to_buffer(value)
        return self._head(value.shape, len(buffer)), buffer

    def parts(self, value: Array, cuts: Sequence[Cut]) -> Parts:
        if self._axis != 0 or not value.nbytes:
            return _apart(self.whole, value, self._axis, cuts)
        small = value.nbytes <= _COPY_BYTES_MAX
        data = value.tobytes() if small else np.ascontiguousarray(value).data.cast("B")
        row, tail = len(data) // len(value), value.shape[1:]
        heads: list[TensorHead] = []
        buffers: list[Buffer] = []
        rows, head = 1, self._head((1, *tail), row)
        for start, end in cuts:
            if end - start != rows:
                rows = end - start
                head = self._head((rows, *tail), rows * row)
            part: Buffer = data[start * row : end * row]
            if not small and len(part) <= _COPY_BYTES_MAX:
                part = bytes(part)  # a short view would keep all the rows in memory
            heads.append(head)
            buffers.append(part)
        return heads, buffers

    def _head(self, shape: tuple[int, ...], nbytes: int) -> TensorHead:
        head = self._heads.get(shape)
        if head is None:
            head = TensorHead(self._name, self._datatype, shape, nbytes)
            if len(self._heads) < limits.output_plans_max:
                self._heads[shape] = head
        return head


class StringColumn:
    """Strings, as BYTES."""

    def __init__(self, name: str, axis: int) -> None:
        self._name = name
        self._axis = axis

    def whole(self, value: Array) -> Encoded:
        buffer = arrays.encode_elements(value.ravel().tolist())
        return TensorHead(self._name, BYTES, value.shape, len(buffer)), buffer

    def parts(self, value: Array, cuts: Sequence[Cut]) -> Parts:
        return _apart(self.whole, value, self._axis, cuts)


class ZipMapColumn:
    """A list of maps, one for each row, as numbers of [rows, classes]."""

    def __init__(self, spec: TensorSpec) -> None:
        self._spec = spec
        self._numbers = NumberColumn(spec, 0)

    def whole(self, value: Any) -> Encoded:
        return self._numbers.whole(zipmap_array(value, self._spec))

    def parts(self, value: Any, cuts: Sequence[Cut]) -> Parts:
        return self._numbers.parts(zipmap_array(value, self._spec), cuts)


class ClassesColumn:
    """The k best of each row, by the protocol's classification extension."""

    def __init__(self, spec: TensorSpec, k: int, zipmap: bool, rowwise: bool, axis: int) -> None:
        """``rowwise``: one number for each row where there is only one axis, which is else that of the classes.

        Raises InvalidArgument for an output that has no order.
        """
        self._spec = spec
        self._k = k
        self._zipmap = zipmap
        self._rowwise = rowwise
        self._strings = StringColumn(spec.name, axis)
        self._axis = axis
        if spec.datatype == BYTES:
            classify(np.empty(0), BYTES, k, (), spec.name)  # refuse it now rather than after the model ran

    def whole(self, value: Any) -> Encoded:
        spec = self._spec
        array: Array = zipmap_array(value, spec) if self._zipmap else value
        if self._rowwise and array.ndim == 1:
            array = array.reshape(-1, 1)
        return self._strings.whole(classify(array, spec.datatype, self._k, spec.labels, spec.name))

    def parts(self, value: Any, cuts: Sequence[Cut]) -> Parts:
        return _apart(self.whole, value, self._axis, cuts)


def _apart(whole: Callable[[Any], Encoded], value: Any, axis: int, cuts: Sequence[Cut]) -> Parts:
    encoded = [whole(part) for part in slices(value, axis, cuts)]
    return [head for head, _ in encoded], [buffer for _, buffer in encoded]


def slices(value: Any, axis: int, cuts: Sequence[Cut]) -> list[Any]:
    """The rows of each call out of a batch's output, as views."""
    if axis < 0:
        return [value] * len(cuts)
    if axis == 0:
        return [value[start:end] for start, end in cuts]
    before = (slice(None),) * axis
    return [value[(*before, slice(start, end))] for start, end in cuts]


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
