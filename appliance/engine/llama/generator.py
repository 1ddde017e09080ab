"""One batch after the other: what it holds, how it went, and which tokens come of it.

``step`` lets go of calls that nobody waits for, starts calls while there is room (roster.py), computes one batch
(schedule/plan.py decides which tokens), and takes from each place with logits the next token.
"""

import time
from collections.abc import Callable

from appliance import limits
from appliance.clock import Clock
from appliance.engine.llama.accounts import Accounts
from appliance.engine.llama.adapters import Adapters
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.guesses import Guesses
from appliance.engine.llama.roster import Roster
from appliance.engine.llama.schedule.plan import NEARLY_DONE_TOKENS, Share, plan_step, prefill_budget, prefill_most
from appliance.engine.llama.schedule.step_times import StepTimes
from appliance.engine.llama.sequence import Sequence
from appliance.engine.llama.vocab import Vocab
from appliance.engine.llama.waiting import wanted_until
from appliance.engine.llama.watch import StepWatch
from appliance.errors import ApplianceError, InternalError, ResourceExhausted

# Guesses behind an answer's next token, by the answer's index among those of the step.
Drafts = dict[int, list[int]]


class Generator:
    """Computes the running sequences of ``roster`` in ``context``."""

    def __init__(
        self,
        context: Context,
        roster: Roster,
        vocab: Vocab,
        adapters: Adapters,
        guesses: Guesses,
        clock: Clock,
        accounts: Accounts,
        latency_wanted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.times = StepTimes()
        self._context = context
        self._roster = roster
        self._cache = roster.cache
        self._vocab = vocab
        self._adapters = adapters
        self._guesses = guesses
        self._clock = clock
        self._accounts = accounts
        self._latency_wanted = latency_wanted
        self._watch = StepWatch(clock)
        self._adapter = ""
        self._turn_left = 0
        self._suspects: list[Sequence] = []

    def step(self) -> None:
        """One batch."""
        began = time.perf_counter_ns()
        self._roster.sweep()
        self._roster.admit()
        ready = [s for s in self._roster.running if not s.reply.backlogged]
        if ready:
            self._compute(self._suspect(ready) or self._of_one_adapter(ready))
        self._accounts.stepped(time.perf_counter_ns() - began)

    def _suspect(self, ready: list[Sequence]) -> list[Sequence]:
        """After a step of several that failed, one of them alone, so that only who fails alone pays for it."""
        while self._suspects:
            suspect = self._suspects.pop()
            if suspect in ready:
                return [suspect]
        return []

    def _of_one_adapter(self, ready: list[Sequence]) -> list[Sequence]:
        """llama.cpp applies one set of adapters to a whole batch: those of each adapter take turns of some steps."""
        names = sorted({s.adapter for s in ready})
        self._turn_left -= 1
        if self._turn_left <= 0 or self._adapter not in names:
            self._adapter = next((name for name in names if name > self._adapter), names[0])
            self._turn_left = limits.adapter_turn_steps
        return ready if len(names) == 1 else [s for s in ready if s.adapter == self._adapter]

    # --- one batch ---------------------------------------------------------------------------------------------------

    def _compute(self, ready: list[Sequence]) -> None:
        shares, drafts = self._plan(ready)
        while not self._cache.make_room(sum(s.count for s in shares) + sum(map(len, drafts.values()))):
            if drafts:
                drafts = {}
                continue
            victim = self._roster.set_back_the_cheapest()
            if victim is None:
                self._roster.fail(ready[0], _cache_full())
                return
            ready = [s for s in ready if s is not victim]
            if not ready:
                return
            shares, drafts = self._plan(ready)
        self._adapters.select(self._context, ready[0].adapter)
        indices = self._fill(ready, shares, drafts)
        members = [ready[share.index] for share in shares]
        outcome = self._decode(members)
        if outcome is not Decoded.DONE:
            self._undo(members, outcome)
            return
        for sequence, share, index in zip(members, shares, indices, strict=True):
            self._take(sequence, share, index, drafts.get(share.index, []))

    def _plan(self, ready: list[Sequence]) -> tuple[list[Share], Drafts]:
        batch = self._context.batch
        decoding = sum(not s.prefilling for s in ready)
        nearly_done = sum(s.prefilling and s.waiting <= NEARLY_DONE_TOKENS for s in ready)
        budget = prefill_budget(decoding, self.times, prefill_most(self._latency_wanted()), nearly_done)
        shares = plan_step(ready, budget, batch.capacity)
        taken = sum(share.count for share in shares)
        room = min(batch.capacity - taken, self._context.outputs_max - sum(share.last for share in shares))
        answers = {share.index: ready[share.index] for share in shares if not ready[share.index].prefilling}
        return shares, self._guesses.propose(answers, taken - len(answers), room, self.times)

    def _fill(self, ready: list[Sequence], shares: list[Share], drafts: Drafts) -> list[int]:
        """Puts the shares into the batch; gives for each the index of its first output, -1 where there is none."""
        batch = self._context.batch
        batch.clear()
        indices = []
        for share in shares:
            sequence = ready[share.index]
            seat = sequence.seat
            assert seat is not None
            start = seat.position
            if sequence.prefilling:
                tokens = sequence.tokens[start : start + share.count]
                last = batch.add(tokens, start, seat.seq_id, output_last=share.last)
                indices.append(last if share.last else -1)
            else:
                tokens = [sequence.tokens[-1], *drafts.get(share.index, ())]
                last = batch.add(tokens, start, seat.seq_id, output_last=True, output_all=True)
                indices.append(last - len(tokens) + 1)
        return indices

    def _decode(self, members: list[Sequence]) -> Decoded:
        limit = self._clock.monotonic_ns() + limits.decode_ms_max * 1_000_000
        wanted = wanted_until(members)
        self._watch.arm(min(limit, wanted) if wanted else limit)
        began = time.perf_counter_ns()
        outcome = self._context.decode(self._watch)
        took = time.perf_counter_ns() - began
        self._watch.disarm()
        self._accounts.computed(took)
        if outcome is Decoded.DONE:
            self.times.add(self._context.batch.count, took)
        return outcome

    def _undo(self, members: list[Sequence], outcome: Decoded) -> None:
        """Cuts the cache back to before the step, and decides who pays for it."""
        now = self._clock.monotonic_ns()
        for sequence in members:
            assert sequence.seat is not None
            self._cache.cut(sequence.seat, sequence.position)
        if outcome is Decoded.ABORTED and all(self._roster.over(s, now) for s in members):
            return  # the next sweep lets them go
        if outcome is Decoded.NO_ROOM and self._cache.kept:
            self._cache.make_room(self._cache.room)
        elif len(members) > 1:
            self._suspects = members
        else:
            self._roster.fail(members[0], _error_of(outcome))

    # --- what came of it ---------------------------------------------------------------------------------------------

    def _take(self, sequence: Sequence, share: Share, index: int, drafts: list[int]) -> None:
        """Takes the tokens out of the logits at ``index`` and behind it, as long as ``drafts`` were right."""
        seat = sequence.seat
        assert seat is not None
        prefilled = sequence.prefilling
        seat.position += share.count
        if prefilled and (share.last or len(self._roster.line)):
            self._cache.publish(seat, sequence.tokens)
        if index < 0 or sequence.reply.cancelled or not sequence.answers.left:
            return  # the sweep takes who is gone
        accepted = 0
        while True:
            reason = self._choose(sequence, index + accepted)
            if reason or accepted == len(drafts) or sequence.tokens[-1] != drafts[accepted]:
                break
            accepted += 1
            seat.position += 1
        if sequence.seat is None:
            return  # it failed
        if drafts:
            self._guesses.judge(sequence, len(drafts), accepted)
            self._accounts.drafted(len(drafts), accepted)
        if accepted < len(drafts):
            self._cache.cut(seat, seat.position)
        if reason:
            self._roster.finish(sequence, reason)

    def _choose(self, sequence: Sequence, index: int) -> str:
        """Takes and sends the next token out of the logits at ``index``; gives the reason to end, or ""."""
        sequence.first_token_ns = sequence.first_token_ns or self._clock.monotonic_ns()
        try:
            token, choice = sequence.chooser.choose(self._context, index, sequence.generated)
            if self._vocab.ends_turn(token):
                return "stop"
            self._accounts.generated()
            self._roster.line.charge(sequence.client, 1)
            return sequence.take(token, choice)
        except ApplianceError as error:
            self._roster.fail(sequence, error)
            return "failed"

    def close(self) -> None:
        """Forgets every call."""
        self._roster.close()
        self._watch.close()
        self._guesses.close()


def _error_of(outcome: Decoded) -> ApplianceError:
    if outcome is Decoded.ABORTED:
        return InternalError(f"one step took longer than {limits.decode_ms_max:,} ms", reason="STEP_TOO_LONG")
    if outcome is Decoded.NO_ROOM:
        return _cache_full()
    return InternalError(f"the model could not compute a step ({outcome.value})")


def _cache_full() -> ResourceExhausted:
    return ResourceExhausted("the KV cache is full: try again later", reason="KV_CACHE_FULL")
