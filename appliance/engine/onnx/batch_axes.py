"""Along which axis of each tensor the rows of a batch lie, and which calls may go into one.

An axis is 0 unless model.toml says otherwise (onnx.batch_axes, or a state's batch_axis); -1 stands for a tensor without
rows: an input that must be the same in all calls of a batch, an output that all of them get. A bucket is what calls
must agree in to be computed together: the shapes of their inputs apart from the rows' axis, which inputs they bring,
and the bytes of inputs without rows. Ragged inputs so form a bucket for each length; nothing is ever padded.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from appliance import limits
from appliance.engine.arrays import Array
from appliance.engine.onnx.planner import BatchRules
from appliance.engine.onnx.signature import Node
from appliance.errors import InvalidArgument
from appliance.model_spec import OnnxOptions
from appliance.types import ModelSignature, TensorSpec

_REASON = "MODEL_BATCHING"


class BatchAxes:
    """``inputs`` and ``outputs``: the rows' axis by tensor name. ``strict``: all inputs must have the same rows."""

    def __init__(self, inputs: Mapping[str, int], outputs: Mapping[str, int], strict: bool, simple: bool) -> None:
        """``simple``: all but the rows' axis is fixed in every input, and every call brings them all."""
        self.inputs = dict(inputs)
        self.outputs = dict(outputs)
        self._strict = strict
        self._items = list(inputs.items())
        self._only = self._items[0] if simple and len(inputs) == 1 else None

    def measure(self, feed: dict[str, Array]) -> tuple[int, Hashable]:
        """Rows of a call and its bucket; None: it runs alone.

        Raises InvalidArgument when two inputs have different numbers of rows although the model says they are the same.
        """
        if self._only is not None:
            name, axis = self._only
            rows = feed[name].shape[axis]
            return rows, () if rows else None
        return self._measure(feed)

    def _measure(self, feed: dict[str, Array]) -> tuple[int, Hashable]:
        rows, first = -1, ""
        key: list[Hashable] = []
        alone = False
        for name, axis in self._items:
            array = feed.get(name)
            if array is None:
                key.append(None)
            elif axis < 0:
                alone = alone or array.nbytes > limits.batch_shared_bytes_max
                key.append(None if alone else (array.shape, _content(array)))
            else:
                shape = array.shape
                key.append((shape[:axis], shape[axis + 1 :]))
                if rows < 0:
                    rows, first = shape[axis], name
                elif shape[axis] != rows:
                    alone = True
                    if self._strict:
                        raise _disagree(first, rows, name, shape[axis])
        return max(rows, 0), None if alone or rows <= 0 else tuple(key)

    def wrong_output(self, outputs: Mapping[str, Any], rows: int) -> str:
        """The name of an output that hasn't ``rows`` rows along its axis; empty when all have."""
        for name, value in outputs.items():
            axis = self.outputs[name]
            if axis < 0:
                continue
            shape = (len(value),) if isinstance(value, list) else value.shape
            if axis >= len(shape) or shape[axis] != rows:
                return name
        return ""


def _content(array: Array) -> Hashable:
    return tuple(array.ravel().tolist()) if array.dtype == object else array.tobytes()


def _disagree(first: str, rows: int, second: str, others: int) -> InvalidArgument:
    return InvalidArgument(
        f"inputs {first!r} and {second!r} must have the same number of rows; they have {rows} and {others}",
        reason="TENSOR_BATCH_AXIS",
    )


class Batching(NamedTuple):
    """What model.toml and the model's axes allow. ``axes`` None: calls can't be computed together, ``why`` not."""

    axes: BatchAxes | None
    rules: BatchRules
    why: str = ""


def batching(
    signature: ModelSignature, inputs: Sequence[Node], zipmaps: frozenset[str], options: OnnxOptions
) -> Batching:
    """Reads the batch options. ``inputs`` are the runtime's own, whose named axes say which are the same.

    Raises InvalidArgument MODEL_BATCHING for options that don't fit the model.
    """
    rules = _rules(options)
    given = _given_axes(signature, zipmaps, options)
    if not given and options.batching != "on" and not signature.batch_axis:
        return Batching(None, rules, "its axes don't say that rows are independent (onnx.batch_axes can)")
    takes = {spec.name: _axis(spec, given, as_input=True) for spec in signature.inputs}
    gives = {spec.name: _axis(spec, given, as_input=False) for spec in signature.outputs}
    unfit = next((name for name, axis in (takes | gives).items() if axis is None), None)
    known_in = {name: axis for name, axis in takes.items() if axis is not None}
    why = ""
    if unfit is not None:
        why = f"axis 0 of {unfit!r} has a fixed length"
    elif max(known_in.values(), default=-1) < 0:
        why = "no input has an axis for the rows"
    if why and options.batching == "on":
        raise InvalidArgument(
            f'onnx.batching is "on", but {why}: export the model with a dynamic first axis, name another axis in'
            " onnx.batch_axes, or leave batching out",
            reason=_REASON,
        )
    if why:
        return Batching(None, rules, why)
    known_out = {name: axis for name, axis in gives.items() if axis is not None}
    strict = bool(given) or options.batching == "on" or _one_name(inputs, known_in)
    simple = all(_only_rows_vary(spec, known_in[spec.name]) for spec in signature.inputs)
    return Batching(BatchAxes(known_in, known_out, strict, simple), rules)


def _rules(options: OnnxOptions) -> BatchRules:
    rows_max = options.batch_rows_max or limits.batch_rows_default_max
    preferred = tuple(sorted(set(options.batch_rows_preferred)))
    if len(preferred) > limits.batch_rows_preferred_max:
        raise InvalidArgument(
            f"onnx.batch_rows_preferred has {len(preferred)} sizes, at most {limits.batch_rows_preferred_max} are allowed",
            reason=_REASON,
        )
    if preferred and not 1 <= preferred[0] <= preferred[-1] <= rows_max:
        raise InvalidArgument(
            f"onnx.batch_rows_preferred names sizes from {preferred[0]} to {preferred[-1]}; 1 to {rows_max}"
            " (onnx.batch_rows_max) are possible",
            reason=_REASON,
        )
    return BatchRules(rows_max, options.batch_wait_us_max * 1000, preferred)


def _given_axes(signature: ModelSignature, zipmaps: frozenset[str], options: OnnxOptions) -> dict[str, int]:
    """Axes that model.toml names, checked; the one of a sequence's state counts for its input and its output."""
    takes = {spec.name: spec for spec in signature.inputs}
    gives = {spec.name: spec for spec in signature.outputs}
    given = dict(options.batch_axes)
    for state in options.sequence.states:
        for name in (state.input, state.output):
            if given.setdefault(name, state.batch_axis) != state.batch_axis:
                raise InvalidArgument(
                    f"onnx.batch_axes gives the state {name!r} the axis {given[name]}, onnx.sequence {state.batch_axis}:"
                    " they must be the same",
                    reason=_REASON,
                )
    for name, axis in given.items():
        found = [(spec, role) for spec, role in ((takes.get(name), "input"), (gives.get(name), "output")) if spec]
        if not found:
            known = ", ".join(map(repr, (*takes, *gives)))
            raise InvalidArgument(f"onnx.batch_axes names {name!r}; the model has {known}", reason=_REASON)
        for spec, role in found:
            _check_axis(spec, role, axis, spec.name in zipmaps and role == "output")
    return given


def _check_axis(spec: TensorSpec, role: str, axis: int, zipmap: bool) -> None:
    rank = len(spec.shape)
    # Of an output without a shape nothing is known until it is there; such an input counts as a scalar.
    most = rank if rank or role == "input" else limits.tensor_rank_max
    problem = ""
    if not -1 <= axis < most:
        problem = f"has {rank} axes: -1 to {most - 1} can be named" if most else "is a scalar: only -1 can be named"
    elif zipmap and axis != 0:
        problem = "is a list of maps, one for each row: its axis is 0"
    elif rank and axis >= 0 and spec.shape[axis] != -1:
        problem = f"is always {spec.shape[axis]} long there: rows need a dynamic axis"
    if problem:
        raise InvalidArgument(
            f"onnx.batch_axes gives the {role} {spec.name!r} the axis {axis}, but it {problem}", reason=_REASON
        )


def _axis(spec: TensorSpec, given: Mapping[str, int], *, as_input: bool) -> int | None:
    """The rows' axis; None when axis 0, which nobody named, can't be it."""
    if spec.name in given:
        return given[spec.name]
    if spec.optional or (as_input and not spec.shape):
        return -1
    return 0 if not spec.shape or spec.shape[0] == -1 else None


def _one_name(inputs: Sequence[Node], axes: Mapping[str, int]) -> bool:
    """Whether the file itself says that the rows of all inputs are as many. "unk__" names are shape inference's own."""
    names = {node.shape[axes[node.name]] for node in inputs if axes.get(node.name, -1) >= 0}
    return len(names) == 1 and all(isinstance(n, str) and not n.startswith("unk__") for n in names)


def _only_rows_vary(spec: TensorSpec, axis: int) -> bool:
    others = [length for at, length in enumerate(spec.shape) if at != axis]
    return not spec.optional and axis >= 0 and -1 not in others
