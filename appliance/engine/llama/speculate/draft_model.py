"""A smaller model of the same vocabulary guesses: it runs ahead, greedily, for all sequences in the same batches.

Unlike a look-up, a guess costs time and nothing is learned without one. So two rules: guess where it is expected to pay,
what the guesses cost included; and where it is not, try now and then with at most PROBE_SHARE of the time.
"""

import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from appliance import events, limits
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.schedule.step_times import StepTimes
from appliance.engine.llama.speculate.base import Speculation, StepCost, Wanted
from appliance.engine.llama.speculate.draft_cache import DraftCache, Held
from appliance.engine.llama.speculate.payoff import Acceptance, choose
from appliance.errors import FailedPrecondition

_log = logging.getLogger(__name__)
# By how many guesses came before it in the step. Hopeful: an operator who adds a draft model has a reason.
PRIORS = (0.8, 0.8, 0.8, 0.8)
PROBE_SHARE = 0.01
# What may be saved up for probes: one is at most a long prompt.
_PROBE_SAVED_NS_MAX = 2e9
_FAILURES_MAX = 3
# The first run of each length also sets up the graph.
_MEASURED_RUNS = 3


class _Job(msgspec.Struct):
    """``feed`` is to be computed next for sequence ``index`` of the call; ``left`` guesses are wanted after it."""

    index: int
    held: Held
    feed: list[int]
    left: int


class DraftSpeculation(Speculation):
    """See the module. Owns ``draft`` and ``context``. ``common``: tokens below it mean the same to both models."""

    def __init__(
        self,
        draft: LlamaModel,
        context: Context,
        sequences: int,
        common: int,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._model = draft
        self._context = context
        self._common = common
        self._now_ns = now_ns
        self._cache = DraftCache(sequences, context.tokens)
        self._acceptance = Acceptance(PRIORS)
        self._times = StepTimes()
        # Sequences with tokens that the draft model has not; those for which it guessed at once that they end.
        self._strange: set[int] = set()
        self._ended: set[int] = set()
        self._probe: int | None = None
        self._probe_ns = 0.0
        self._failures = 0

    def measure(self) -> None:
        """Learns what the draft model's steps take, before the first is to be decided on."""
        points = []
        for tokens in (1, min(16, self._context.batch.capacity)):
            times = []
            for _ in range(_MEASURED_RUNS):
                self._context.batch.clear()
                self._context.batch.add([0] * tokens, 0, 0, output_last=True)
                began = self._now_ns()
                if self._context.decode() is not Decoded.DONE:
                    raise FailedPrecondition("the draft model cannot compute a single step", reason="MODEL_BROKEN")
                times.append(self._now_ns() - began)
                self._context.clear()
            points.append((tokens, float(min(times))))
        self._times.anchor(points)

    def propose(self, wanted: Sequence[Wanted], cost: StepCost, others: int = 0) -> list[list[int]]:
        guesses: list[list[int]] = [[] for _ in wanted]
        if not wanted or self._failures >= _FAILURES_MAX:
            return guesses
        for one in wanted:
            wrong = self._cache.settle(one.key, one.tokens)
            if wrong:
                self._context.cut(*wrong)
            if one.key in self._ended:
                self._ended.remove(one.key)
                self._acceptance.saw(one.key, 0, right=False)
        counts = self._decide(wanted, cost, len(wanted) + others)
        jobs = self._jobs(wanted, counts)
        while jobs:
            if not self._compute(jobs):
                return [[] for _ in wanted]
            jobs = self._next(wanted, jobs, guesses)
        return guesses

    def judge(self, key: int, drafted: int, accepted: int) -> None:
        top = len(PRIORS) - 1
        for depth in range(accepted):
            self._acceptance.saw(key, min(depth, top), right=True)
        if accepted < drafted:
            self._acceptance.saw(key, min(accepted, top), right=False)

    def forget(self, key: int) -> None:
        seq_id = self._cache.drop(key)
        if seq_id is not None:
            self._context.cut(seq_id, 0)
        self._acceptance.forget(key)
        self._strange.discard(key)
        self._ended.discard(key)
        self._give_up(key)

    def close(self) -> None:
        self._context.close()
        self._model.close()

    # --- for whom, and how many ----------------------------------------------------------------------------------------

    def _decide(self, wanted: Sequence[Wanted], cost: StepCost, tokens: int) -> list[int]:
        def drafting_ns(depths: list[int]) -> float:
            return sum(self._times.predict_ns(sequences) for sequences in depths if sequences)

        chances: list[list[float]] = []
        for one in wanted:
            most = 0 if one.key in self._strange else min(one.most, limits.speculation_guesses_max)
            chances.append(self._acceptance.chances(one.key, 0, most))
        counts = choose(chances, tokens, cost, drafting_ns)
        self._consider_probe(wanted, counts, cost, tokens)
        for index, one in enumerate(wanted):
            if one.key == self._probe and chances[index]:
                counts[index] = max(1, counts[index])
        return counts

    def _consider_probe(self, wanted: Sequence[Wanted], counts: list[int], cost: StepCost, tokens: int) -> None:
        """Picks a sequence to try although it is not expected to pay, when enough time was saved up for that."""
        self._probe_ns = min(_PROBE_SAVED_NS_MAX, self._probe_ns + PROBE_SHARE * cost.predict_ns(tokens))
        if self._probe not in {one.key for one in wanted}:
            self._probe = None  # its sequence is not in this step: another one may be tried
        if self._probe is not None or any(counts):
            return
        candidates = [(self._behind(one), one.key) for one in wanted if one.most and one.key not in self._strange]
        if not candidates:
            return
        behind, key = min(candidates)
        price = self._times.predict_ns(behind) + cost.predict_ns(tokens + 1) - cost.predict_ns(tokens)
        if price <= self._probe_ns:
            self._probe, self._probe_ns = key, self._probe_ns - price

    def _behind(self, one: Wanted) -> int:
        held = self._cache.get(one.key)
        return len(one.tokens) - (held.agreed if held else 0)

    def _jobs(self, wanted: Sequence[Wanted], counts: list[int]) -> list[_Job]:
        """Who is computed: those least behind first, so that a long prompt never makes the others wait for it."""
        jobs: list[_Job] = []
        budget, reserved = self._context.batch.capacity, 0
        chosen = sorted((self._behind(one), index) for index, one in enumerate(wanted) if counts[index])
        keep = {wanted[index].key for _, index in chosen}
        for behind, index in chosen:
            one, feed = wanted[index], min(behind, budget)
            if not feed:
                continue
            left = counts[index] if feed == behind else 0
            more = feed + max(0, left - 1)
            cleared = self._cache.room_for(one.key, more + reserved, keep)
            held = self._cache.get(one.key)
            if cleared is None or held is None:
                self._give_up(one.key)
                continue
            for seq_id in cleared:
                self._context.cut(seq_id, 0)
            tokens = one.tokens[held.agreed : held.agreed + feed]
            if max(tokens) >= self._model.vocab.size:
                self._strange.add(one.key)
                self._give_up(one.key)
                continue
            budget, reserved = budget - feed, reserved + more - feed
            held.agreed += feed
            jobs.append(_Job(index, held, tokens, left))
        return jobs

    def _give_up(self, key: int) -> None:
        if self._probe == key:
            self._probe = None

    # --- running ahead -------------------------------------------------------------------------------------------------

    def _compute(self, jobs: list[_Job]) -> bool:
        """One decode of what each job is to feed, which is counted in its ``held`` already."""
        batch = self._context.batch
        batch.clear()
        for job in jobs:
            batch.add(job.feed, job.held.size - len(job.feed), job.held.seq_id, output_last=job.left > 0)
        began = self._now_ns()
        outcome = self._context.decode()
        if outcome is not Decoded.DONE:
            self._failures += 1
            _log.warning(
                "the draft model could not compute a step (%s): nothing is guessed for now",
                outcome.value,
                extra=events.MODEL_GUESSING_FAILED.of(),
            )
            self._context.clear()
            self._cache.drop_all()
            return False
        self._failures = 0
        self._times.add(batch.count, self._now_ns() - began)
        return True

    def _next(self, wanted: Sequence[Wanted], jobs: list[_Job], guesses: list[list[int]]) -> list[_Job]:
        """Takes each job's guess; gives the jobs that go on from there."""
        going, last = [], -1
        for job in jobs:
            last += len(job.feed)
            if not job.left:
                continue
            key, so_far = wanted[job.index].key, guesses[job.index]
            self._give_up(key)
            token = int(self._context.logits(last)[: self._common].argmax())
            if self._model.vocab.ends_turn(token):
                if not so_far:
                    self._ended.add(key)
                continue
            so_far.append(token)
            job.left -= 1
            if job.left:
                job.held.guessed.append(token)
                job.feed = [token]
                going.append(job)
        return going
