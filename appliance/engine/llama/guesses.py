"""Guesses for the running answers of a step: what a grammar forces, else what speculation makes of the text so far.

What a grammar forces is sure to be accepted as far as its tokens are cut as the model would cut them, so those guesses
need no thought about whether they pay.
"""

from appliance import limits
from appliance.engine.llama.sequence import Sequence
from appliance.engine.llama.speculate.base import Speculation, StepCost, Wanted


class Guesses:
    """``speculation`` None: only what grammars force is guessed, and with ``forced`` False nothing at all.

    A guess that was wrong must be cut from the cache again, which recurrent models cannot do.
    """

    def __init__(self, speculation: Speculation | None, *, forced: bool = True) -> None:
        self._speculation = speculation
        self._forced = forced

    def propose(self, answers: dict[int, Sequence], others: int, room: int, cost: StepCost) -> dict[int, list[int]]:
        """Guesses for running ``answers``, at most ``room`` in all; ``others`` are the other tokens of the step."""
        guesses: dict[int, list[int]] = {}
        free: dict[int, Sequence] = {}
        for index, sequence in answers.items():
            mask = sequence.chooser.mask
            if mask is None:
                free[index] = sequence
                continue
            forced = (
                mask.forced(min(sequence.most_drafts, limits.speculation_guesses_max, room)) if self._forced else []
            )
            if forced:
                guesses[index] = forced
                room -= len(forced)
        if self._speculation:
            others += len(answers) - len(free) + sum(map(len, guesses.values()))
            most = min(limits.speculation_guesses_max, room // max(1, len(free)))
            wanted = [Wanted(s.number, s.tokens, max(0, min(s.most_drafts, most))) for s in free.values()]
            proposed = self._speculation.propose(wanted, cost, others)
            guesses |= {index: tokens for index, tokens in zip(free, proposed, strict=True) if tokens}
        return guesses

    def judge(self, sequence: Sequence, drafted: int, accepted: int) -> None:
        """Of ``drafted`` guesses the first ``accepted`` were right."""
        sequence.drafted_tokens += drafted
        sequence.accepted_tokens += accepted
        if self._speculation and sequence.chooser.mask is None:
            self._speculation.judge(sequence.number, drafted, accepted)

    def forget(self, number: int) -> None:
        """The sequence ended."""
        if self._speculation:
            self._speculation.forget(number)

    def close(self) -> None:
        """Gives native memory back."""
        if self._speculation:
            self._speculation.close()
