"""llama.cpp's own sampler chain of one sequence: its random state, and the tokens that its penalties look at.

The chain's order is llama.cpp's: penalties, top_k, top_p, min_p, temperature, draw. A filter that is off isn't in it.
"""

from collections.abc import Sequence
from typing import Any

from appliance.engine.llama.context import Context
from appliance.engine.llama.native import C, expect
from appliance.engine.llama.sampling.options import SEED_MAX, SamplingPlan


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
            self._add(C.llama_sampler_init_greedy())  # only with penalties: chooser.py takes the largest itself
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
