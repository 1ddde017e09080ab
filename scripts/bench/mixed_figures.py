"""Pure: requests of the two classic models by what their metadata says, and what their recorded calls come to."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from appliance.pb.inference import grpc_service_pb2 as pb
from bench.metronome import Bodies, Calls
from bench.payload import InputSpec, build_request, close_axes
from bench.stats import Summary, percentile
from bench.target import BenchError

FIGURES = ("p50_ms", "p99_ms", "call_p50_ms", "call_p99_ms", "late_p99_ms", "max_ms")
SAMPLE_RATE = 16_000
# silero-vad's window with the samples before it, and alone where the model's folder keeps them as state.
WHOLE_WINDOW, NEW_SAMPLES = 576, 512


def summary_of(calls: Calls) -> Summary:
    """Of the calls of one phase. p50, p99, max: from when a call was due to its answer; call_*: from when it was sent;
    late_p99: by how much the client itself was late (waking up, or because the call before took longer than a step).
    """
    whole, call, late = calls.ended - calls.due, calls.ended - calls.sent, calls.sent - calls.due
    values = (
        percentile(whole / 1e6, 50),
        percentile(whole / 1e6, 99),
        percentile(call / 1e6, 50),
        percentile(call / 1e6, 99),
        percentile(late / 1e6, 99),
        percentile(whole / 1e6, 100),
    )
    errors = {"FAILED": calls.failed} if calls.failed else {}
    return Summary(len(calls.due), "thin", dict(zip(FIGURES, values, strict=True)), errors)


def bodies_for(model: str, inputs: Sequence[InputSpec], sequence_id: int) -> Bodies:
    """Requests that the model takes: a row, or a window of sound with its state or as one of a sequence."""
    names = {one.name: one for one in inputs}
    if "chunk" in names or {"input", "state", "sr"} <= set(names):
        return _sound(model, names, sequence_id)
    request = build_request(model, "", [close_axes(one, 1) for one in inputs])
    return Bodies(request, request, request)


def _sound(model: str, names: Mapping[str, InputSpec], sequence_id: int) -> Bodies:
    noise = np.random.default_rng(0).normal(0, 0.05, (1, WHOLE_WINDOW)).astype(np.float32)
    if "chunk" in names:
        feed: dict[str, np.ndarray] = {"chunk": noise[:, -NEW_SAMPLES:]}
        return Bodies(*(_request(model, feed, names, sequence_id, place) for place in ("start", "", "end")))
    state = np.zeros((2, 1, 128), np.float32)
    feed = {"input": noise, "state": state, "sr": np.asarray(SAMPLE_RATE, np.int64)}
    request = _request(model, feed, names, 0, "")
    return Bodies(request, request, request)


def _request(
    model: str, feed: Mapping[str, np.ndarray], names: Mapping[str, InputSpec], sequence_id: int, place: str
) -> bytes:
    """``sequence_id`` 0: no sequence; ``place``: whether this starts or ends it."""
    request = pb.ModelInferRequest(model_name=model)
    for name, array in feed.items():
        if len(names[name].shape) != array.ndim:
            raise BenchError(f"{model}: input {name!r} has the shape {list(names[name].shape)}, not {array.ndim} axes")
        request.inputs.add(name=name, datatype=names[name].datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    if sequence_id:
        request.parameters["sequence_id"].int64_param = sequence_id
    if place:
        request.parameters[f"sequence_{place}"].bool_param = True
    return request.SerializeToString()


def verdicts(ratios: Mapping[str, float], targets: Mapping[str, tuple[str, float]]) -> list[str]:
    """A line for each figure that has a target: (``"<="`` or ``">="``, value)."""
    lines = []
    for name, ratio in ratios.items():
        sense, target = targets[name]
        met = ratio <= target if sense == "<=" else ratio >= target
        told = "not measured" if math.isnan(ratio) else "met" if met else "missed"
        lines.append(f"{name}: {ratio:.2f}, target {sense} {target:g}: {told}")
    return lines
