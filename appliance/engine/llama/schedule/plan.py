"""Which tokens go into the next batch: a pure function from sequences to shares of one step.

Every running answer gets its next token, with guesses behind it where they pay. Then prompts fill what is left of the
step's time (Sarathi-Serve's chunked prefill, Agrawal et al. 2024): the budget is chosen so that the step takes at most
``PREFILL_STRETCH`` times as long as without it, or ``prefill_step_ms_min``, whichever is more. So a long prompt slows
running streams, but never stops them; with nobody decoding it takes the largest step.

Half of the budget is the oldest prompt's, so that it comes to an end; the rest goes to those with the least to do, so
that a short question doesn't wait for a long document.
"""

from collections.abc import Sequence as Seq
from typing import Protocol

import msgspec

from appliance import limits

PREFILL_STRETCH = 1.8
# A smaller piece of a prompt costs a step for next to nothing.
PREFILL_TOKENS_MIN = 8
NEARLY_DONE_TOKENS = 32


class Planned(Protocol):
    """What the planner must know of a sequence."""

    @property
    def waiting(self) -> int:
        """How many tokens are not computed yet: what is left of the prompt, or the one token chosen last."""
        ...

    @property
    def prefilling(self) -> bool:
        """Whether these are prompt, or an answer that is computed again after it had lost its room."""
        ...


class Times(Protocol):
    """How long steps take (step_times.py)."""

    def predict_ns(self, tokens: int) -> float:
        """Of a step of so many tokens."""
        ...

    def tokens_within(self, ns: float) -> int:
        """The other way round."""
        ...


class Share(msgspec.Struct, frozen=True):
    """``count`` of the waiting tokens of sequence ``index``; ``last``: these are all, so that logits are wanted."""

    index: int
    count: int
    last: bool


def prefill_most(latency_wanted: bool) -> int:
    """Prompt tokens that a step may have at the most: fewer while models of the latency class want the processor.

    Not for their sake alone, whom the kernel lets go first: a step that is interrupted all the time lasts longer, and
    whoever waits for its end should not wait much longer for that.
    """
    return limits.prefill_step_tokens_yielding if latency_wanted else limits.prefill_step_tokens_max


def prefill_budget(decoding: int, times: Times, most: int, nearly_done: int = 0) -> int:
    """How many prompt tokens may ride along with ``decoding`` answers' tokens, at most ``most``.

    ``nearly_done`` prompts lack ``NEARLY_DONE_TOKENS`` or fewer. Where they are more than the answers that run, the step may
    take as many times longer: many get their first token for one longer gap of few. So it is when clients with one
    system prompt come together.
    """
    if not decoding:
        return most
    allowed_ns = max(PREFILL_STRETCH * times.predict_ns(decoding), limits.prefill_step_ms_min * 1e6)
    allowed_ns *= max(1.0, nearly_done / decoding)
    return min(most, max(PREFILL_TOKENS_MIN, times.tokens_within(allowed_ns) - decoding))


def plan_step(sequences: Seq[Planned], budget: int, capacity: int) -> list[Share]:
    """The shares of a batch of at most ``capacity`` tokens, of which at most ``budget`` are prompt.

    ``sequences`` are in the order of their start. Answers come before prompts in the result.
    """
    shares: list[Share] = []
    prompts: list[int] = []
    for index, sequence in enumerate(sequences):
        if sequence.prefilling:
            prompts.append(index)
        elif capacity > 0:
            shares.append(Share(index, 1, last=True))
            capacity -= 1
    counts = _divide([sequences[index].waiting for index in prompts], min(budget, capacity))
    for index, count in zip(prompts, counts, strict=True):
        if count:
            shares.append(Share(index, count, last=count == sequences[index].waiting))
    return shares


def _divide(waiting: list[int], budget: int) -> list[int]:
    """``budget`` tokens among prompts, the oldest first in the list: half to it, the rest to the shortest."""
    counts = [0] * len(waiting)
    if not waiting or budget <= 0:
        return counts
    counts[0] = min(waiting[0], (budget + 1) // 2)
    budget -= counts[0]
    for index in sorted(range(len(waiting)), key=lambda i: (waiting[i] - counts[i], i)):
        more = min(waiting[index] - counts[index], budget)
        counts[index] += more
        budget -= more
    return counts
