"""ONNX Runtime's exceptions as our errors. Its text has paths of its build and of ours: it is logged, never shown."""

import logging
import re

from onnxruntime.capi import onnxruntime_pybind11_state as state

from appliance import events, limits
from appliance.errors import ApplianceError, InternalError, InvalidArgument, ResourceExhausted
from appliance.logs.plain import one_line

_log = logging.getLogger(__name__)

# "... while running Gather node. Name:'...' Status Message: ..."
_OPERATOR = re.compile(r"while running (\w{1,64}) node")
_MEMORY = ("bad_alloc", "Failed to allocate memory", "bad allocation")


def load_error(error: Exception, name: str) -> ApplianceError:
    """Why ``name`` could not be loaded."""
    _log.error("ONNX Runtime could not load %s: %s", name, error, extra=events.MODEL_LOAD_FAILED.of())
    text = str(error)
    if isinstance(error, MemoryError) or any(m in text for m in _MEMORY):
        return ResourceExhausted(f"there is not enough memory to load {name!r}", reason="MODEL_MEMORY")
    # ONNX Runtime reports a type that it does not know as FAIL and a missing kernel as NOT_IMPLEMENTED; an operator or
    # opset that it has never heard of has texts of its own.
    unknown = ("No Op registered", "is not a registered function/op", "not currently registered", "under development")
    if isinstance(error, state.NotImplemented) or any(u in text for u in unknown):
        return InvalidArgument(
            f"{name!r} needs an operator, opset or tensor type that this ONNX Runtime doesn't have (the log says which);"
            " export it for an older opset or with standard operators",
            reason="MODEL_UNSUPPORTED",
        )
    return InvalidArgument(
        f"{name!r} is damaged or not a valid ONNX model (the log says why); copy or export it again",
        reason="MODEL_CORRUPT",
    )


def run_error(error: Exception) -> ApplianceError:
    """Why a run failed. Kernels fail on what they are given far more often than by themselves."""
    text = str(error)
    # It names nodes, shapes and at most one value, an index out of range: no tensors.
    said = one_line(text, limits.runtime_error_chars_max)
    _log.warning("ONNX Runtime failed a request: %s", said, extra=events.MODEL_RUN_FAILED.of())
    if isinstance(error, MemoryError) or any(m in text for m in _MEMORY):
        return ResourceExhausted(
            "there is not enough memory to run the model on inputs of this size", reason="MODEL_MEMORY"
        )
    operator = _OPERATOR.search(text)
    if operator:
        return InvalidArgument(
            f"the model's {operator.group(1)} operator can't work with these inputs: check that the shapes fit together"
            " and that indices are in range",
            reason="MODEL_RUN_FAILED",
        )
    if isinstance(error, state.InvalidArgument):
        return InvalidArgument("the model can't work with inputs of these shapes or types", reason="MODEL_RUN_FAILED")
    if isinstance(error, UnicodeDecodeError):
        return InternalError("the model gave a string that is not UTF-8", reason="MODEL_RUN_FAILED")
    return InternalError("the model failed; the daemon's log says why", reason="MODEL_RUN_FAILED")
