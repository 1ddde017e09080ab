"""How the engines of tensor models do now: one line each in `appliance status`, sentences in `models show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli import output

if TYPE_CHECKING:
    from appliance.pb.appliance.v1 import admin_pb2

COLUMNS: list[tuple[str, output.Justify]] = [
    ("TENSOR MODEL", "left"),
    ("RUNS", "right"),
    ("ROWS/RUN", "right"),
    ("WAITING", "right"),
    ("QUEUE", "right"),
    ("COMPUTE", "right"),
]

_LABELS_SHOWN = 10
_LABEL_CHARS_MAX = 40


def rows(models: list[admin_pb2.ModelStatus]) -> list[list[str]]:
    """One line for each model whose engine has run something; times are means over its calls."""
    return [_row(model) for model in models if _ran(model.counters) and model.pid]


def _ran(counters: admin_pb2.EngineCounters) -> bool:
    return bool(counters.execution_count) and not counters.HasField("language")


def _row(model: admin_pb2.ModelStatus) -> list[str]:
    counters = model.counters
    return [
        f"{model.name} {model.version}",
        output.count(counters.execution_count),
        f"{counters.inference_count / counters.execution_count:.3g}",
        ("~" if counters.waiting else "") + output.count(counters.waiting),
        milliseconds(counters.queue_ns, counters.success_count),
        milliseconds(counters.compute_ns, counters.success_count),
    ]


def sentences(model: admin_pb2.ModelStatus) -> list[tuple[str, str]]:
    """The same and more, as facts with names; empty where there is nothing to say."""
    counters = model.counters
    if model.kind == "tensor" and model.pid:
        most = f"up to {model.batch_rows_max} rows together" if model.batch_rows_max else "calls run one by one"
    else:
        most = ""
    place = model.provider if model.pid else ""
    held = ("sequences", sequences(model))
    if not _ran(counters):
        return [("runs on", place), ("batching", most), held]
    calls = counters.success_count
    sizes = sorted(counters.batch_sizes.items(), key=lambda entry: -entry[1])[:5]
    often = ", ".join(f"{count}x {size}" for size, count in sizes)
    return [
        ("runs on", place),
        ("batching", most),
        held,
        (
            "runs",
            f"{counters.execution_count} of {counters.inference_count} rows" + (f" (most: {often})" if often else ""),
        ),
        (
            "time",
            f"{milliseconds(counters.queue_ns, calls)} in the queue, {milliseconds(counters.compute_ns, calls)} computing"
            f" ({milliseconds(counters.compute_input_ns, calls)} of it inputs,"
            f" {milliseconds(counters.compute_output_ns, calls)} outputs), the mean of {calls} calls"
            if calls
            else "",
        ),
    ]


def sequences(model: admin_pb2.ModelStatus) -> str:
    """Of a stateful model: how many sequences it holds; empty for others."""
    if not model.sequences:
        return ""
    counters = model.counters
    states = f", {output.size(counters.sequence_bytes)} of states" if counters.sequences else ""
    forgotten = f", {counters.sequences_expired} forgotten because no call came" if counters.sequences_expired else ""
    return f"{counters.sequences} live{states}{forgotten}"


def meaning(tensor: admin_pb2.TensorSpec) -> str:
    """What an output's numbers mean, as far as model.toml says it."""
    parts = [output.line(tensor.description), output.line(tensor.unit and f"unit {tensor.unit}")]
    if tensor.HasField("threshold"):
        parts.append(f"yes from {tensor.threshold:g} on")
    if tensor.labels:
        few = [output.clipped(label, _LABEL_CHARS_MAX) for label in tensor.labels[:_LABELS_SHOWN]]
        more = len(tensor.labels) - len(few)
        parts.append("labels " + ", ".join(few) + (f" and {more} more" if more else ""))
    return "; ".join(filter(None, parts))


def milliseconds(nanoseconds: int, calls: int) -> str:
    """The mean: ``0.013 ms``, ``12.3 ms``; a dash without calls."""
    return f"{nanoseconds / calls / 1e6:.3g} ms" if calls else "-"
