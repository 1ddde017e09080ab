"""Which execution provider a model gets: a list of wishes, held against what this ONNX Runtime has.

Only decides and explains; sessions.py tries. Names are those of model.toml and engines.providers. Options as in
onnxruntime.ai/docs/execution-providers, tried with onnxruntime-openvino 1.24 and onnxruntime-gpu 1.31.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from appliance.errors import FailedPrecondition

CPU = "cpu"
RUNTIME_NAMES = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    CPU: "CPUExecutionProvider",
}
_NAMES = {runtime: name for name, runtime in RUNTIME_NAMES.items()}
_PACKAGES = {"tensorrt": "onnxruntime-gpu", "cuda": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
# What takes over the nodes that a provider has no kernel for, before the processor does.
_HELPERS = {"tensorrt": ("cuda",)}

Passed = tuple[tuple[str, str], ...]
ProviderList = list[tuple[str, dict[str, str]]]


class Plan(NamedTuple):
    """``tries`` of the ``wished`` providers are to be tried, in this order; the others are passed over: name -> reason."""

    wished: tuple[str, ...]
    tries: tuple[str, ...]
    passed: dict[str, str]

    def ranked(self, reasons: Mapping[str, str]) -> Passed:
        """``reasons`` in the order of the wishes."""
        return tuple((name, reasons[name]) for name in self.wished if name in reasons)


def plan(owner: Sequence[str], daemon: Sequence[str], available: Sequence[str]) -> Plan:
    """The model owner's list, else the daemon's; ``available`` in the runtime's own names.

    The processor comes last unless it is named earlier; an owner's list that lacks it means that the model must not run
    there. Raises FailedPrecondition PROVIDER_MISSING when nothing of such a list is there.
    """
    wished = list(dict.fromkeys(owner or daemon))
    if not owner and CPU not in wished:
        wished.append(CPU)
    tries: list[str] = []
    passed: dict[str, str] = {}
    for name in wished:
        if RUNTIME_NAMES.get(name) in available:
            tries.append(name)
        elif name in _PACKAGES:
            passed[name] = f"this onnxruntime was built without it; install {_PACKAGES[name]}"
        else:
            passed[name] = "no provider that the appliance knows"
    if not tries:
        raise missing(wished, available)
    return Plan(tuple(wished), tuple(tries), passed)


def missing(wished: Sequence[str], available: Sequence[str]) -> FailedPrecondition:
    """The error when none of the providers that a model's owner allows can be used."""
    there = [_NAMES[name] for name in available if name in _NAMES]
    return FailedPrecondition(
        f"model.toml allows only {', '.join(wished)} (onnx.providers), which this machine can't"
        f" offer; there is {', '.join(there)}. Install what is missing, or name one of these too"
        " (the daemon's log says more)",
        reason="PROVIDER_MISSING",
    )


def provider_list(name: str, available: Sequence[str], *, threads: int, cache_dir: str) -> ProviderList:
    """What InferenceSession takes as ``providers`` to run on ``name``. ``cache_dir`` "": nothing is kept on disk."""
    chain = [name, *(h for h in _HELPERS.get(name, ()) if RUNTIME_NAMES[h] in available)]
    if name != CPU:
        chain.append(CPU)
    return [(RUNTIME_NAMES[n], _options(n, threads, cache_dir)) for n in chain]


def _options(name: str, threads: int, cache_dir: str) -> dict[str, str]:
    if name == "cuda":
        return {
            # The other strategy doubles the arena each time, of a device that several engines share.
            "arena_extend_strategy": "kSameAsRequested",
            # EXHAUSTIVE, the default, tries every algorithm anew for each new shape, and batches come in many shapes.
            "cudnn_conv_algo_search": "HEURISTIC",
        }
    if name == "tensorrt" and cache_dir:
        # Building an engine takes seconds to minutes, for each device and each range of shapes.
        return {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": f"{cache_dir}/tensorrt",
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": f"{cache_dir}/tensorrt",
        }
    if name == "openvino":
        # Its default would compute in bfloat16 where the processor has it: answers must not change with the machine.
        options = {"device_type": "CPU", "precision": "ACCURACY", "num_of_threads": str(threads)}
        return options | ({"cache_dir": f"{cache_dir}/openvino"} if cache_dir else {})
    return {}


def used(session_providers: Sequence[str]) -> str:
    """The name of what a session runs on, from its ``get_providers()``: the first of them."""
    return next((_NAMES.get(name, name) for name in session_providers), "")


def sentence(model: str, provider: str, passed: Passed) -> str:
    """The one line of the log: what was chosen, and why not what was wished more."""
    why = "".join(f"; {name}: {reason}" for name, reason in passed)
    return f"{model} runs on {provider}{why}"
