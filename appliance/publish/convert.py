"""From a fitted estimator to an ONNX file through skl2onnx: one matrix of numbers in, or one input for each column.

The opsets are those that the oldest ONNX Runtime we allow (1.20) reads, the file's version (IR) with them.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from appliance import limits
from appliance.errors import InvalidArgument, ResourceExhausted, Unimplemented
from appliance.publish import boosters
from appliance.publish.estimators import Subject, last_step, leaves
from appliance.publish.table import Array, Table, refused

_OPSET = {"": 18, "ai.onnx.ml": 3}
# How scalers divide. Trees see the last bit: which of them does what the estimator does depends on what it was fitted on.
Division = Literal["std", "div", "div_cast"]
DIVISIONS: tuple[Division, ...] = ("std", "div", "div_cast")
_SCALERS = ("StandardScaler", "RobustScaler", "MaxAbsScaler")
_DATATYPES = {"number": "FP32", "integer": "INT64", "text": "BYTES"}
Layout = Literal["auto", "matrix", "columns"]


@dataclass(frozen=True)
class Inputs:
    """What the model takes: the one FP32 input ``matrix`` [rows, columns], or an input [rows, 1] for each column ("").

    ``columns``: (name, datatype) of each.
    """

    matrix: str
    columns: tuple[tuple[str, str], ...]

    def feed(self, rows: Table) -> dict[str, Array]:
        """The tensors that a client would send for these rows: FP32, INT64 or ``str`` objects."""
        if self.matrix:
            return {self.matrix: np.stack([c.values.astype(np.float32) for c in rows.columns], axis=1)}
        kinds = {"FP32": np.float32, "INT64": np.int64, "BYTES": object}
        return {
            name: c.values.astype(kinds[datatype])[:, None]
            for (name, datatype), c in zip(self.columns, rows.columns, strict=True)
        }

    def places(self) -> list[tuple[str, int]]:
        """For each column, its input and its place there."""
        if self.matrix:
            return [(self.matrix, index) for index in range(len(self.columns))]
        return [(name, 0) for name, _ in self.columns]


def plan_inputs(subject: Subject, rows: Table, layout: Layout, matrix: str) -> Inputs:
    """``auto`` is one matrix unless there are texts, or a step looks columns up by name."""
    columns = tuple((c.name, _DATATYPES[c.kind]) for c in rows.columns)
    by_name = not rows.numeric() or _picks_by_name(subject.estimator)
    if layout == "matrix" and by_name:
        raise refused("one matrix can't carry texts, nor the names that a ColumnTransformer looks columns up by")
    if layout == "matrix" or (layout == "auto" and not by_name):
        return Inputs(matrix, columns)
    if len(columns) > limits.tensors_per_call_max:
        raise refused(
            f"{len(columns)} columns would be as many inputs, and a call has at most {limits.tensors_per_call_max}:"
            " choose columns by number in the ColumnTransformer, and all of them numbers"
        )
    return Inputs("", columns)


def _picks_by_name(estimator: Any) -> bool:
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[0][1]
    picks = [columns for _, _, columns in getattr(estimator, "transformers_", ())]
    return any(isinstance(pick, str) or (np.size(pick) and isinstance(np.ravel(pick)[0], str)) for pick in picks)


def has_scalers(subject: Subject) -> bool:
    """Whether ``division`` makes a difference."""
    return any(type(step).__name__ in _SCALERS for _, step in leaves(subject.estimator))


def advice(subject: Subject, rows: Table) -> list[str]:
    """What a publisher can do about rows that differ, likeliest first."""
    said = []
    trees = [type(step).__name__ for _, step in leaves(subject.estimator) if _has_trees(step)]
    if trees and has_scalers(subject):
        said.append(
            "Trees behind a scaler split just where training values lie: leave the scaler out, trees need none, or fit on"
            " FP32 rows and give the same here."
        )
    elif trees:
        said.append("Clients send FP32: fit on FP32 rows and give the same here.")
    if any(getattr(step, "boosting_type", "") == "rf" for _, step in leaves(subject.estimator)):
        said.append("onnxmltools takes every LightGBM forest (boosting rf) for one of 100 trees: fit exactly so many.")
    if trees and any(column.missing for column in rows.columns):
        said.append("scikit-learn's trees lose the way of missing values on export: put a SimpleImputer first.")
    said.append("Or accept the difference (--accept-difference): the card will tell.")
    return said


def _has_trees(step: Any) -> bool:
    return any(word in type(step).__name__ for word in ("Tree", "Forest", "Boost", "XGB", "LGBM", "LightGbm"))


def convert(subject: Subject, inputs: Inputs, rename: Mapping[str, str], division: Division = "std") -> bytes:
    """The ONNX file. ``rename``: outputs by skl2onnx's names (label, probabilities, variable) to ours.

    Raises Unimplemented ESTIMATOR_UNSUPPORTED naming the step, ResourceExhausted MODEL_SIZE.
    """
    boosters.register(subject.estimator)
    _check_steps(subject)
    _check_size(subject)
    import skl2onnx

    model = boosters.without_names(subject.estimator)
    options: dict[int, dict[str, Any]] = {
        id(step): {"div": division} for _, step in leaves(model) if type(step).__name__ in _SCALERS
    }
    if subject.classes is not None:
        options[id(last_step(model))] = {"zipmap": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = skl2onnx.to_onnx(
                model, initial_types=_types(inputs), options=options, target_opset=_OPSET, verbose=0
            )
    except Exception as error:  # each converter has its own ways to say no
        raise Unimplemented(
            f"the {type(subject.estimator).__name__} has no way to ONNX: {str(error)[:800]}",
            reason="ESTIMATOR_UNSUPPORTED",
        ) from error
    _rename(made.graph, rename)
    _tidy_opsets(made)
    if made.ByteSize() > limits.publish_onnx_bytes_max:
        raise _too_large(f"the ONNX file would have {made.ByteSize()} bytes, at most {limits.publish_onnx_bytes_max}")
    data: bytes = made.SerializeToString()
    return data


def _types(inputs: Inputs) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    if inputs.matrix:
        return [(inputs.matrix, FloatTensorType([None, len(inputs.columns)]))]
    kinds = {"FP32": FloatTensorType, "INT64": Int64TensorType, "BYTES": StringTensorType}
    return [(name, kinds[datatype]([None, 1])) for name, datatype in inputs.columns]


def _check_steps(subject: Subject) -> None:
    """skl2onnx's own refusal doesn't say which step of a pipeline it means."""
    from skl2onnx._supported_operators import sklearn_operator_name_map

    for where, step in leaves(subject.estimator):
        if type(step) not in sklearn_operator_name_map:
            at = f"step {where!r}, a " if where else "a "
            raise Unimplemented(
                f"{at}{type(step).__name__} ({type(step).__module__}), has no converter to ONNX; use one that"
                " skl2onnx.supported_converters() lists, or put what it does into the data beforehand",
                reason="ESTIMATOR_UNSUPPORTED",
            )


def _check_size(subject: Subject) -> None:
    """Conversion takes some 10 µs and 1 kB a node in Python: a forest too large is told at once, not after an hour."""
    nodes = sum(_nodes(step) for _, step in leaves(subject.estimator))
    if nodes > limits.publish_tree_nodes_max:
        raise _too_large(f"its trees have {nodes} nodes, at most {limits.publish_tree_nodes_max}")


def _nodes(step: Any) -> int:
    trees = np.ravel(getattr(step, "estimators_", [])) if hasattr(step, "estimators_") else [step]
    return sum(int(getattr(getattr(tree, "tree_", None), "node_count", 0)) for tree in trees)


def _too_large(what: str) -> ResourceExhausted:
    return ResourceExhausted(
        f"{what} are allowed: fit fewer or shallower trees (max_depth, min_samples_leaf)", reason="MODEL_SIZE"
    )


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    """New names in place: an Identity node for each would cost at every call."""
    taken = {name for node in graph.node for name in (*node.input, *node.output)} - set(names)
    if clash := taken & set(names.values()):
        raise InvalidArgument(
            f"the output can't be called {min(clash)!r}: something inside the model or one of its inputs is",
            reason="OUTPUT_NAME",
        )
    for node in graph.node:
        for field in (node.input, node.output):
            for at, name in enumerate(field):
                field[at] = names.get(name, name)
    for value in (*graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)


def _tidy_opsets(model: Any) -> None:
    """The converters of onnxmltools leave the same domain twice."""
    versions = {entry.domain: entry.version for entry in model.opset_import}
    del model.opset_import[:]
    for domain, version in versions.items():
        model.opset_import.add(domain=domain, version=version)
