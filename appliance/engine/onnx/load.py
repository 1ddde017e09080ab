"""From a model folder to a loaded ONNX model, checking first what ONNX Runtime would follow without asking."""

import logging
import time
from pathlib import Path, PurePosixPath

import msgspec

from appliance import limits
from appliance.engine.base import LoadOptions
from appliance.engine.model_files import listed_file, regular_file
from appliance.engine.onnx.chain import Chain
from appliance.engine.onnx.engine import OnnxEngine
from appliance.engine.onnx.external_data import corrupt, external_data
from appliance.engine.onnx.facts import with_facts
from appliance.engine.onnx.labels import output_labels
from appliance.engine.onnx.profiling import Measured, Profiler
from appliance.engine.onnx.providers import sentence
from appliance.engine.onnx.runner import make_runner
from appliance.engine.onnx.sequences import Sequences
from appliance.engine.onnx.sessions import Opened, open_session
from appliance.engine.onnx.signature import is_zipmap, signature
from appliance.engine.onnx.states import make_states, rows_of
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec

_log = logging.getLogger(__name__)


def load(spec: ModelSpec, folder: Path, options: LoadOptions) -> OnnxEngine:
    """Loads the ONNX file of ``spec`` in ``folder``, or the chain of those that it lists.

    Raises InvalidArgument with the reason MODEL_FILE, MODEL_CORRUPT or MODEL_UNSUPPORTED, FailedPrecondition
    PROVIDER_MISSING, ResourceExhausted MODEL_MEMORY.
    """
    opened = open_model(spec, folder, options)
    session = opened.session
    _log.info("%s", sentence(spec.model_path, opened.provider, opened.passed))
    zipmaps = frozenset(node.name for node in session.get_outputs() if is_zipmap(node))
    labels = output_labels(session, zipmaps, spec, folder)
    told = signature(session.get_inputs(), session.get_overridable_initializers(), session.get_outputs(), labels)
    states = make_states(spec, folder, told)
    sequences = Sequences(states, spec.onnx.sequence, time.monotonic_ns, rows_of(spec, told, states))
    told = with_facts(msgspec.structs.replace(told, provider=opened.provider), spec.onnx, states)

    def measured(scratch: Path) -> Measured:
        again = open_model(spec, folder, options, scratch)
        return Measured(make_runner(again.session, told, zipmaps), again.stages)

    return OnnxEngine(
        session,
        told,
        zipmaps,
        options=spec.onnx,
        sequences=sequences,
        queue_max=spec.limits.max_queue or options.queue_max or limits.engine_queue_default_max,
        warmup_rows=spec.onnx.warmup_rows,
        profiler=Profiler(measured, options.cache_dir, time.monotonic_ns),
    )


def chain_files(spec: ModelSpec) -> tuple[str, ...]:
    """The ONNX files that one call goes through, in that order."""
    of = {role: [f.path for f in spec.files if f.role == role] for role in ("preprocess", "model", "postprocess")}
    return (*of["preprocess"], *of["model"], *of["postprocess"])


def open_model(spec: ModelSpec, folder: Path, options: LoadOptions, profile: Path | None = None) -> Opened:
    """The session, or the chain of sessions, of all ONNX files; ``profile`` as in sessions.open_session, a folder.

    Raises as ``load`` does.
    """
    names = chain_files(spec)
    if len(names) > limits.chain_files_max:
        raise InvalidArgument(
            f"model.toml lists {len(names)} ONNX files that run one after the other, at most"
            f" {limits.chain_files_max} are served; put some of them into one file (onnx.compose.merge_models)",
            reason="MODEL_FILE",
        )
    paths = [regular_file(folder, name) for name in names]
    for name, path in zip(names, paths, strict=True):
        check_external_data(spec, folder, name, path)
    opened = [
        open_session(path, spec, options, name, profile=profile / str(stage) if profile else None)
        for stage, (name, path) in enumerate(zip(names, paths, strict=True))
    ]
    main = opened[names.index(spec.model_path)]
    if len(opened) == 1:
        return main
    stages = tuple(stage.session for stage in opened)
    return main._replace(session=Chain(stages, spec.onnx.feeds, names), stages=stages)


def check_external_data(spec: ModelSpec, folder: Path, name: str, path: Path) -> None:
    """Every place that the ONNX file ``name`` points at must be inside a listed file of the folder, within its size."""
    base = PurePosixPath(name).parent
    sizes: dict[str, int] = {}
    for entry in external_data(path, name):
        location = PurePosixPath(entry.location)
        if not entry.location or location.is_absolute() or ".." in location.parts:
            raise InvalidArgument(
                f"{name!r} keeps tensors in {entry.location!r}, outside the model's folder; export it with"
                " its data beside it",
                reason="MODEL_FILE",
            )
        data = str(base / location)
        if data not in sizes:
            sizes[data] = listed_file(spec, folder, data, "data").stat().st_size
        if entry.offset + entry.length > sizes[data]:
            raise corrupt(data, f"a tensor at byte {entry.offset} of {entry.length} bytes, it has {sizes[data]}")
