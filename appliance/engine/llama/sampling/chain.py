"""Choosing the next token: what the client asked for, completed and checked, and llama.cpp's own sampler chain for it.

The chain's order is llama.cpp's: penalties, top_k, top_p, min_p, temperature, draw. A filter that is off isn't in it.
"""

import math
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from appliance.calls import Sampling, TokenChoice, TokenLogprob
from appliance.engine.llama.context import Context
from appliance.engine.llama.native import C, expect
from appliance.engine.llama.vocab import Vocab
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


class Sampler:
    """The sampler chain of one sequence: its random state, and the tokens that its penalties look at."""

    def __init__(self, plan: SamplingPlan, vocab_size: int, context_tokens: int) -> None:
        self._chain: Any = expect(C.llama_sampler_chain_init(C.llama_sampler_chain_default_params()), "sampler chain")
        self._last_n = 0
        if plan.repeat_penalty != 1 or plan.presence_penalty or plan.frequency_penalty:
            last_n = context_tokens if plan.repeat_last_n < 0 else min(plan.repeat_last_n, context_tokens)
            self._last_n = last_n
            self._add(C.llama_sampler_init_penalties(
                vocab_size, last_n, plan.repeat_penalty, plan.frequency_penalty, plan.presence_penalty
            ))  # fmt: skip
        if plan.temperature == 0:
            self._add(C.llama_sampler_init_greedy())
            return
        if plan.top_k:
            self._add(C.llama_sampler_init_top_k(plan.top_k))
        if plan.top_p < 1:
            self._add(C.llama_sampler_init_top_p(plan.top_p, 1))
        if plan.min_p > 0:
            self._add(C.llama_sampler_init_min_p(plan.min_p, 1))
        self._add(C.llama_sampler_init_temp(plan.temperature))
        # 2**32 - 1 is LLAMA_DEFAULT_SEED, which means "draw one": no client's answer may change from call to call.
        self._add(C.llama_sampler_init_dist(min(plan.seed, SEED_MAX - 1)))

    def _add(self, sampler: Any) -> None:
        C.llama_sampler_chain_add(self._chain, expect(sampler, "sampler"))

    def see(self, tokens: Sequence[int]) -> None:
        """Lets the penalties know the prompt."""
        if self._last_n:
            for token in tokens[-self._last_n :]:
                C.llama_sampler_accept(self._chain, token)

    def sample(self, context: Context, index: int) -> int:
        """The next token, from the logits of the batch's token ``index``; the penalties see it at once."""
        return int(C.llama_sampler_sample(self._chain, context.handle, index))

    def close(self) -> None:
        """Frees the chain."""
        if self._chain:
            C.llama_sampler_free(self._chain)
            self._chain = None


def usable(logits: npt.NDArray[np.float32]) -> bool:
    """Whether there is anything to choose from: the largest is a number (max gives NaN if any is; 10 us for 49,152)."""
    return math.isfinite(float(logits.max()))


def token_choice(logits: npt.NDArray[np.float32], chosen: int, top: int, vocab: Vocab) -> TokenChoice:
    """The chosen token's and the ``top`` best tokens' log-probabilities, before any filter (penalties included)."""
    largest = float(logits.max())
    total = float(np.exp(logits - largest, dtype=np.float32).sum(dtype=np.float64))
    shift = largest + math.log(total)
    count = min(top, len(logits))
    best = np.argpartition(logits, -count)[-count:]
    best = best[np.argsort(-logits[best], kind="stable")]

    def one(token: int) -> TokenLogprob:
        return TokenLogprob(token, vocab.piece(token), float(logits[token]) - shift)

    return TokenChoice(one(chosen), tuple(one(int(token)) for token in best))
