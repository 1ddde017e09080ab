"""A request's parameters: which are the protocol's own, of which type, and what is left for the model. Pure."""

from typing import NamedTuple

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.serve.shared_tensors import Place, refused
from appliance.serve.validate import quote
from appliance.types import ParameterValue

_UINT64_MAX = 2**64 - 1
# A year: a longer timeout is none.
_TIMEOUT_US_MAX = 366 * 86_400 * 1_000_000
EMPTY_FINAL = "triton_enable_empty_final_response"
FINAL = "triton_final_response"
# Of a tensor: where it is, and what each is when it isn't given.
_PLACE_KEYS: dict[str, ParameterValue] = {
    "shared_memory_region": "",
    "shared_memory_byte_size": 0,
    "shared_memory_offset": 0,
}


class Options(NamedTuple):
    """What the protocol lets a request say. ``timeout_us`` 0: none. ``model``: all that the model itself may read."""

    priority: int = 0
    timeout_us: int = 0
    empty_final: bool = False
    model: dict[str, ParameterValue] = {}  # noqa: RUF012  # never written to


NO_OPTIONS = Options()


def read(parameters: dict[str, ParameterValue]) -> Options:
    """Sorts a request's parameters; raises InvalidArgument for a wrong type, value, or an unknown triton_ key."""
    _check_bounds(parameters)
    priority = timeout_us = 0
    empty_final = False
    rest: dict[str, ParameterValue] = {}
    for key, value in parameters.items():
        if key == "priority":
            priority = _integer(key, value, _UINT64_MAX)
        elif key == "timeout":
            timeout_us = min(_integer(key, value, 2**63 - 1), _TIMEOUT_US_MAX)
        elif key == EMPTY_FINAL:
            empty_final = _bool(key, value)
        elif key == "sequence_id":
            rest[key] = _sequence_id(value)
        elif key in ("sequence_start", "sequence_end"):
            rest[key] = _bool(key, value)
        elif key.startswith("triton_"):
            raise InvalidArgument(
                f"parameter {quote(key)} is not known; of the keys that begin with triton_ only {EMPTY_FINAL} is",
                reason="PARAMETER_UNKNOWN",
            )
        else:
            rest[key] = value
    return Options(priority, timeout_us, empty_final, rest)


def place(what: str, parameters: dict[str, ParameterValue], *, offered: bool) -> Place | None:
    """Where in shared memory a tensor is; None when its parameters say nothing of it. ``what`` names the tensor.

    Raises InvalidArgument for parameters that leave open where, or name a place that none can be; Unimplemented when
    shared memory is not ``offered``: a tensor that is said to be elsewhere must not be read as empty.
    """
    _check_bounds(parameters)
    keys = [key for key in parameters if key.startswith("shared_memory_")]
    if not keys:
        return None
    if not offered:
        raise refused(what)
    for key in keys:
        if key not in _PLACE_KEYS:
            raise InvalidArgument(
                f"parameter {quote(key)} of {what} is not known; there are {', '.join(_PLACE_KEYS)}",
                reason="PARAMETER_UNKNOWN",
            )
    region, nbytes, offset = (parameters.get(key, default) for key, default in _PLACE_KEYS.items())
    if not isinstance(region, str) or not region:
        raise InvalidArgument(
            f"parameter 'shared_memory_region' of {what} must be the name of a region, {_shown(region)} came",
            reason="PARAMETER",
        )
    for key, value, least in (("shared_memory_byte_size", nbytes, 1), ("shared_memory_offset", offset, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
            raise InvalidArgument(
                f"parameter '{key}' of {what} must be an int64 of at least {least}, {_shown(value)} came",
                reason="PARAMETER",
            )
    return Place(region, offset, nbytes)  # type: ignore[arg-type]  # checked in the loop


def classification(name: str, parameters: dict[str, ParameterValue]) -> int:
    """How many classes of the output ``name`` are asked for; 0: its values as they are."""
    _check_bounds(parameters)
    value = parameters.get("classification", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise InvalidArgument(
            f"parameter 'classification' of output {quote(name)} must be a positive int64, {_shown(value)} came",
            reason="PARAMETER",
        )
    return value


def _check_bounds(parameters: dict[str, ParameterValue]) -> None:
    if len(parameters) > limits.parameters_max:
        raise InvalidArgument(
            f"{len(parameters)} parameters came, at most {limits.parameters_max} are allowed", reason="PARAMETERS"
        )
    for key, value in parameters.items():
        size = len(key) + (len(value) if isinstance(value, str) else 0)
        if size > limits.parameter_string_bytes_max:
            raise InvalidArgument(
                f"parameter {quote(key)} has {size} characters, at most {limits.parameter_string_bytes_max} are allowed",
                reason="PARAMETERS",
            )


def _integer(key: str, value: ParameterValue, maximum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= maximum:
        kind = "a uint64" if key == "priority" else "an int64 that is not negative"
        raise InvalidArgument(f"parameter '{key}' must be {kind}, {_shown(value)} came", reason="PARAMETER")
    return value


def _bool(key: str, value: ParameterValue) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"parameter '{key}' must be a bool, {_shown(value)} came", reason="PARAMETER")
    return value


def _sequence_id(value: ParameterValue) -> ParameterValue:
    if isinstance(value, (bool, float)):
        raise InvalidArgument(
            f"parameter 'sequence_id' must be an int64 or a string, {_shown(value)} came", reason="PARAMETER"
        )
    return value


def _shown(value: ParameterValue) -> str:
    kind = {bool: "bool", int: "integer", float: "double", str: "string"}[type(value)]
    return f"{kind} {quote(str(value))}"
