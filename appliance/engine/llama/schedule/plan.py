"""Which tokens go into the next batch: a pure function from sequences to shares of one step.

Tokens that continue a running answer go first, one for each sequence, then prompts fill the room that is left. With one
sequence at a time (engine.py) that is all there is to it; many sequences, budgets and fairness will be decided here.
"""

from collections.abc import Sequence as Seq
from typing import Protocol

import msgspec


class Planned(Protocol):
    """What the planner must know of a sequence."""

    @property
    def waiting(self) -> int:
        """How many tokens are not computed yet: what is left of the prompt, or the one token chosen last."""
        ...

    @property
    def prefilling(self) -> bool:
        """Whether these are prompt."""
        ...


class Share(msgspec.Struct, frozen=True):
    """``count`` of the waiting tokens of sequence ``index``; ``last``: these are all, so that logits are wanted."""

    index: int
    count: int
    last: bool


def plan_step(sequences: Seq[Planned], budget: int) -> list[Share]:
    """The shares of a batch of at most ``budget`` tokens."""
    shares: list[Share] = []
    decoding_first = sorted(range(len(sequences)), key=lambda i: sequences[i].prefilling)
    for index in decoding_first:
        waiting = sequences[index].waiting
        count = min(waiting, budget)
        if count:
            shares.append(Share(index, count, count == waiting))
            budget -= count
    return shares
