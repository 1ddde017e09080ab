"""From a model folder to a loaded ONNX model, checking first what ONNX Runtime would follow without asking."""

import logging
from pathlib import Path, PurePosixPath

import onnxruntime as ort

from appliance import limits
from appliance.engine.base import LoadOptions
from appliance.engine.model_files import listed_file, read_lines, regular_file
from appliance.engine.onnx.codec import zipmap_labels
from appliance.engine.onnx.engine import OnnxEngine, synthetic_feed
from appliance.engine.onnx.external_data import corrupt, external_data
from appliance.engine.onnx.failures import load_error
from appliance.engine.onnx.signature import is_zipmap, signature
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec
from appliance.types import ModelSignature

_log = logging.getLogger(__name__)

_OPTIMIZATION = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
# The exceptions say the same, and failures.py logs them in the format of the daemon's log.
_LOG_FATAL = 4


def load(spec: ModelSpec, folder: Path, options: LoadOptions) -> OnnxEngine:
    """Loads the ONNX file of ``spec`` in ``folder``.

    Raises InvalidArgument with the reason MODEL_FILE, MODEL_CORRUPT or MODEL_UNSUPPORTED, ResourceExhausted
    MODEL_MEMORY.
    """
    name = spec.model_path
    path = regular_file(folder, name)
    check_external_data(spec, folder, path)
    try:
        session = ort.InferenceSession(str(path), session_options(spec, options), providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class below Exception
        raise load_error(error, name) from None
    zipmaps = frozenset(node.name for node in session.get_outputs() if is_zipmap(node))
    labels = _labels(_zipmap_labels(session, zipmaps), _file_labels(spec, folder, session))
    told = signature(session.get_inputs(), session.get_overridable_initializers(), session.get_outputs(), labels)
    return OnnxEngine(
        session,
        told,
        zipmaps,
        queue_max=spec.limits.max_queue or options.queue_max or limits.engine_queue_default_max,
        warmup_rows=spec.onnx.warmup_rows,
    )


def session_options(spec: ModelSpec, options: LoadOptions) -> ort.SessionOptions:
    """Threads: what the model's owner wishes, at most what the daemon allows, else one."""
    result = ort.SessionOptions()
    named = [n for n in (spec.onnx.threads, options.threads) if n > 0]
    result.intra_op_num_threads = min(named, default=1)
    result.inter_op_num_threads = 1
    result.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    result.graph_optimization_level = _OPTIMIZATION[spec.onnx.optimization]
    result.log_severity_level = _LOG_FATAL
    # Otherwise a file's ending decides, and other formats have not been checked for what they point at.
    result.add_session_config_entry("session.load_model_format", "ONNX")
    # A spinning pool takes the core from the front-ends while the model idles.
    result.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return result


def check_external_data(spec: ModelSpec, folder: Path, path: Path) -> None:
    """Every place that the ONNX file points at must be inside a listed file of the folder, within its size."""
    base = PurePosixPath(spec.model_path).parent
    sizes: dict[str, int] = {}
    for entry in external_data(path, spec.model_path):
        location = PurePosixPath(entry.location)
        if not entry.location or location.is_absolute() or ".." in location.parts:
            raise InvalidArgument(
                f"{spec.model_path!r} keeps tensors in {entry.location!r}, outside the model's folder; export it with"
                " its data beside it",
                reason="MODEL_FILE",
            )
        name = str(base / location)
        if name not in sizes:
            sizes[name] = listed_file(spec, folder, name, "data").stat().st_size
        if entry.offset + entry.length > sizes[name]:
            raise corrupt(name, f"a tensor at byte {entry.offset} of {entry.length} bytes, it has {sizes[name]}")


def _labels(classes: dict[str, tuple[str, ...]], named: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """A file's labels go before those that a ZipMap has, of which there must be as many."""
    for output, labels in named.items():
        if output in classes and len(classes[output]) != len(labels):
            raise InvalidArgument(
                f"onnx.labels gives {len(labels)} labels for the output {output!r}, which has"
                f" {len(classes[output])} classes",
                reason="MODEL_FILE",
            )
    return classes | named


def _file_labels(spec: ModelSpec, folder: Path, session: ort.InferenceSession) -> dict[str, tuple[str, ...]]:
    known = [node.name for node in session.get_outputs()]
    result = {}
    for output, name in spec.onnx.labels.items():
        if output not in known:
            raise InvalidArgument(
                f"onnx.labels names the output {output!r}; the model gives {', '.join(map(repr, known))}",
                reason="MODEL_FILE",
            )
        result[output] = read_lines(listed_file(spec, folder, name, "labels"), name, limits.labels_bytes_max)
    return result


def _zipmap_labels(session: ort.InferenceSession, zipmaps: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """The classes are not in the runtime's account of the model: one run on zeros tells them, where it can."""
    if not zipmaps:
        return {}
    names = sorted(zipmaps)
    inputs: ModelSignature = signature(session.get_inputs(), (), (), {})
    try:
        answers = session.run(names, synthetic_feed(inputs, 1))
    except Exception as error:  # made-up data; the model serves without labels
        _log.info("the classes of %s stay unknown: %s", ", ".join(names), error)
        return {}
    return {n: tuple(str(k) for k in zipmap_labels(rows)) for n, rows in zip(names, answers, strict=True)}
