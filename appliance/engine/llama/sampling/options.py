"""How the next token is to be chosen: what the client asked for, completed with defaults and checked."""

import math
import secrets
from typing import Any

import msgspec

from appliance.calls import Sampling
from appliance.errors import InvalidArgument
from appliance.model_spec import SamplingDefaults

SEED_MAX = 2**32 - 1


class SamplingPlan(msgspec.Struct, frozen=True):
    """``Sampling`` with every field decided and in its range."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = 64
    seed: int = 0


# Field -> (least, most, whether the least itself is allowed, in words).
_RANGES: dict[str, tuple[float, float, bool, str]] = {
    "temperature": (0, 5, True, "0 (greedy) to 5"),
    "top_k": (0, 2**31 - 1, True, "0 (off) or more"),
    "top_p": (0, 1, False, "above 0, at most 1 (off)"),
    "min_p": (0, 1, True, "0 (off) to 1"),
    "repeat_penalty": (0, 10, False, "above 0, at most 10; 1 is off"),
    "presence_penalty": (-2, 2, True, "-2 to 2"),
    "frequency_penalty": (-2, 2, True, "-2 to 2"),
    "repeat_last_n": (-1, 2**31 - 1, True, "-1 (the whole context) or more"),
    "seed": (0, SEED_MAX, True, f"0 to {SEED_MAX}"),
}


def plan_sampling(asked: Sampling, owner: SamplingDefaults) -> SamplingPlan:
    """Fills in the owner's and the daemon's defaults. Raises InvalidArgument naming field, value and range."""
    fields: dict[str, Any] = {}
    for name in _RANGES:
        value = getattr(asked, name)
        if value is None:
            value = getattr(owner, name, None)
        if value is not None:
            fields[name] = _checked(name, value)
    fields.setdefault("seed", secrets.randbits(32))
    return SamplingPlan(**fields)


def _checked(name: str, value: float) -> float:
    least, most, inclusive, words = _RANGES[name]
    if not math.isfinite(value) or value > most or value < least or (value == least and not inclusive):
        raise InvalidArgument(f"{name} is {value:g}, allowed: {words}" if isinstance(value, float) else
                              f"{name} is {value}, allowed: {words}", reason="SAMPLING_OUT_OF_RANGE")  # fmt: skip
    return value
