"""One ONNX file as a session of the runtime: on the first provider that takes it, with the optimised graph from disk."""

import ctypes
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import onnxruntime as ort

from appliance import events
from appliance.engine.base import LoadOptions
from appliance.engine.onnx import graph_cache, providers
from appliance.engine.onnx.failures import load_error
from appliance.model_spec import ModelSpec

_log = logging.getLogger(__name__)

_OPTIMIZATION = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
# The exceptions say the same, and failures.py logs them in the format of the daemon's log.
_LOG_FATAL, _LOG_WARNING = 4, 2


class Runtime(Protocol):
    """The part of ONNX Runtime that makes sessions; tests put one in its place that has the hardware."""

    def available(self) -> Sequence[str]:
        """The providers that this build has, by the runtime's names."""
        ...

    def session(self, path: str, options: ort.SessionOptions, wished: providers.ProviderList) -> Any:
        """A session, or whatever exception the runtime has for its failure."""
        ...

    def why_absent(self, provider: str) -> str:
        """Why a provider that this build has could not be loaded."""
        ...


class OnnxRuntime:
    """The installed one."""

    def available(self) -> Sequence[str]:
        """As onnxruntime.get_available_providers: what was built in, whether it works here or not."""
        return list(ort.get_available_providers())

    def session(self, path: str, options: ort.SessionOptions, wished: providers.ProviderList) -> Any:
        """Without ONNX Runtime's own way of falling back, which prints to standard output and hides what it did."""
        with _quiet():
            return ort.InferenceSession(path, options, providers=wished, enable_fallback=0)

    def why_absent(self, provider: str) -> str:
        """What the dynamic linker says of the provider's library, which ONNX Runtime only tells its own log."""
        folder = Path(ort.__file__).parent / "capi"
        try:
            for library in ("shared", provider):
                ctypes.CDLL(str(folder / f"libonnxruntime_providers_{library}.so"))
        except OSError as error:
            return f"its libraries can't be loaded ({str(error).rpartition('/')[2]})"
        return "its driver or its device is missing"


class Opened(NamedTuple):
    """A session, the name of the provider in use, and those wished more, each with the reason why not.

    ``stages``: the sessions of the files; of a chain there are several.
    """

    session: ort.InferenceSession
    provider: str
    passed: providers.Passed
    stages: tuple[ort.InferenceSession, ...]


def open_session(
    path: Path,
    spec: ModelSpec,
    options: LoadOptions,
    name: str = "",
    *,
    profile: Path | None = None,
    runtime: Runtime | None = None,
) -> Opened:
    """A session on the first provider of the list that works, and what was passed over.

    With ``profile`` the runtime measures operators from the start and writes to files of that prefix. Raises
    InvalidArgument with the reason MODEL_CORRUPT or MODEL_UNSUPPORTED, ResourceExhausted MODEL_MEMORY,
    FailedPrecondition PROVIDER_MISSING.
    """
    runtime = runtime or OnnxRuntime()
    name = name or path.name
    available = runtime.available()
    plan = providers.plan(spec.onnx.providers, options.providers, available)
    reasons = dict(plan.passed)
    for provider in plan.tries:
        wished = providers.provider_list(
            provider, available, threads=_threads(spec, options), cache_dir=_cache_folder(provider, options)
        )

        def make(file: Path, optimise: bool = True, save: Path | None = None, wished: Any = wished) -> Any:
            return runtime.session(str(file), session_options(spec, options, optimise, save, profile), wished)

        try:
            if provider == providers.CPU and profile is None:
                session = graph_cache.cached(path, name, spec, options, make)
            else:
                session = make(path)
        except Exception as error:  # the runtime's exceptions share no base class below Exception
            if provider == providers.CPU:
                raise load_error(error, name) from None
            _log.warning("%s does not load on %s: %s", name, provider, error, extra=events.MODEL_PROVIDER_REFUSED.of())
            reasons[provider] = "it failed with this model; the line before says how"
            continue
        if providers.used(session.get_providers()) == provider:
            return Opened(session, provider, plan.ranked(reasons), (session,))
        reasons[provider] = runtime.why_absent(provider)
    _log.error(
        "%s", providers.sentence(name, "nothing", plan.ranked(reasons)), extra=events.MODEL_PROVIDER_REFUSED.of()
    )
    raise providers.missing(plan.wished, available)


def session_options(
    spec: ModelSpec, options: LoadOptions, optimise: bool = True, save: Path | None = None, profile: Path | None = None
) -> ort.SessionOptions:
    """``save``: where the optimised graph is written; ``profile``: the prefix of the files with measurements."""
    result = ort.SessionOptions()
    result.intra_op_num_threads = _threads(spec, options)
    result.inter_op_num_threads = 1
    result.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    result.graph_optimization_level = _OPTIMIZATION[spec.onnx.optimization if optimise else "off"]
    result.log_severity_level = _LOG_FATAL
    # Otherwise a file's ending decides, and other formats have not been checked for what they point at.
    result.add_session_config_entry("session.load_model_format", "ONNX")
    # A spinning pool takes the core from the front-ends while the model idles.
    result.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if save is not None:
        result.optimized_model_filepath = str(save)
    if profile is not None:
        result.enable_profiling = True
        result.profile_file_prefix = str(profile)
    return result


def _threads(spec: ModelSpec, options: LoadOptions) -> int:
    """What the model's owner wishes, at most what the daemon allows, else one."""
    return min((n for n in (spec.onnx.threads, options.threads) if n > 0), default=1)


def _cache_folder(provider: str, options: LoadOptions) -> str:
    """Where ``provider`` may keep what it compiled, of this release of the runtime; "" for nowhere."""
    if provider == providers.CPU or not options.cache_dir:
        return ""
    folder = Path(options.cache_dir) / f"providers-{ort.__version__}"
    try:
        (folder / provider).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("what %s compiles can't be kept: %s", provider, error.strerror, extra=events.ENGINE_NO_CACHE.of())
        return ""
    return str(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the runtime's own lines on standard error, in colours; ours say what matters of them."""
    ort.set_default_logger_severity(_LOG_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(_LOG_WARNING)
