"""One sequence's next token out of its logits: bans, biases and the grammar's mask in place, then greedy or the chain.

The order is fixed: log-probabilities are of the model's own logits, then logit_bias, then what may not end yet, then the
mask, then the sampler chain. So a bias cannot lift a token that the grammar forbids.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from appliance.answers import TokenChoice
from appliance.calls import GenerateCall
from appliance.engine.llama.context import Context
from appliance.engine.llama.sampling.chain import Sampler
from appliance.engine.llama.sampling.logprobs import token_choice
from appliance.engine.llama.sampling.options import SamplingPlan
from appliance.engine.llama.vocab import Vocab
from appliance.errors import InternalError, InvalidArgument

Logits = npt.NDArray[np.float32]


class Mask(Protocol):
    """What a grammar allows next (constrain/mask.py)."""

    def apply(self, logits: Logits) -> None:
        """Sets what is not allowed to -inf, in place."""
        ...

    def accept(self, token: int) -> None:
        """Goes on with ``token``."""
        ...

    def forced(self, most: int) -> list[int]:
        """The tokens that must come next, at most so many."""
        ...

    @property
    def complete(self) -> bool:
        """Whether nothing but the end may follow."""
        ...


class Chooser:
    """Chooses for one sequence; owns its random state and its grammar's state."""

    def __init__(self, call: GenerateCall, plan: SamplingPlan, vocab: Vocab, context_tokens: int, mask: Mask | None):
        self.mask = mask
        self.logprobs_top = call.logprobs
        self._vocab = vocab
        self._min_tokens = call.min_tokens
        self._ends_never = call.ignore_eos
        self._ends = np.array(sorted({*vocab.turn_ends, *call.stop_token_ids}), np.int64)
        self._turn_ends = np.array(vocab.turn_ends, np.int64)
        bias = dict(call.logit_bias)
        self._biased = np.fromiter(bias, np.int64, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))
        penalised = plan.repeat_penalty != 1 or plan.presence_penalty or plan.frequency_penalty
        greedy = plan.temperature == 0 and not penalised
        self._sampler = None if greedy else Sampler(plan, vocab.size, context_tokens)

    def see(self, prompt: Sequence[int]) -> None:
        """Lets the penalties know the prompt."""
        if self._sampler:
            self._sampler.see(prompt)

    def choose(self, context: Context, index: int, generated: int) -> tuple[int, TokenChoice | None]:
        """The next token, after ``generated`` ones, from the logits of the batch's token ``index``.

        Raises InternalError (NUMERIC) when the logits are not numbers, InvalidArgument (CONSTRAINT_CONFLICT) when
        nothing is left to choose from, and what the mask raises when the grammar fails.
        """
        logits = context.logits(index)
        best = int(logits.argmax())
        # argmax gives the first NaN if there is one; 10 us for 49,152 tokens.
        if not math.isfinite(logits[best]):
            raise InternalError("the model's logits are NaN or infinite", reason="NUMERIC")
        own = logits
        if self._adjusts(generated):
            own = logits.copy() if self.logprobs_top else logits
            self._adjust(logits, generated)
            best = int(logits.argmax())
            if not math.isfinite(logits[best]):
                raise InvalidArgument(
                    "the constraint leaves no token that min_tokens, ignore_eos and stop_token_ids allow",
                    reason="CONSTRAINT_CONFLICT",
                )
        token = self._sampler.sample(context, index) if self._sampler else best
        choice = token_choice(own, token, self.logprobs_top, self._vocab) if self.logprobs_top else None
        if self.mask and not self._vocab.ends_turn(token):
            self.mask.accept(token)
        return token, choice

    def _adjusts(self, generated: int) -> bool:
        return bool(self.mask or len(self._bias) or self._ends_never or generated < self._min_tokens)

    def _adjust(self, logits: Logits, generated: int) -> None:
        if len(self._bias):
            logits[self._biased] += self._bias
        if generated < self._min_tokens:
            logits[self._ends] = -np.inf
        elif self._ends_never:
            logits[self._turn_ends] = -np.inf
        if self.mask:
            self.mask.apply(logits)

    def close(self) -> None:
        """Frees the sampler chain."""
        if self._sampler:
            self._sampler.close()


def usable(logits: Logits) -> bool:
    """Whether there is anything to choose from: argmax gives the first NaN if there is one ."""
    return math.isfinite(float(logits[logits.argmax()]))
