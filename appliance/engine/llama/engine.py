"""The engine of one GGUF model: checks calls, prepares them, and gives generation and vectors their turns.

Everything that can be said of a call is said when it comes: options, prompt, grammar, room in the queue, deadline. What
``submit`` took can still fail for what happens while it is computed; for what was asked only where a grammar leaves
nothing to say after all.
"""

import time
from collections.abc import Callable, Iterator

import msgspec

from appliance.answers import TokenizeDone
from appliance.calls import AnyCall, EmbedCall, GenerateCall, RerankCall, TokenizeCall
from appliance.clock import Clock
from appliance.engine.base import Engine, Reply
from appliance.engine.llama.accounts import Accounts
from appliance.engine.llama.chat.prompt import Prompt, tokenize_text
from appliance.engine.llama.check import Bounds, check_options, most_tokens
from appliance.engine.llama.parts import Generation, Parts
from appliance.engine.llama.sampling.chooser import Chooser
from appliance.engine.llama.sampling.options import SEED_MAX, SamplingPlan, plan_sampling
from appliance.engine.llama.schedule.expectation import in_words
from appliance.engine.llama.sequence import Answers, Sequence
from appliance.engine.llama.signature import language_signature
from appliance.engine.llama.vectors.embed import Embedder, required
from appliance.engine.llama.vectors.jobs import VectorJob
from appliance.engine.llama.waiting import Waiter, expired, gone, too_late
from appliance.errors import DeadlineExceeded, ResourceExhausted, Unimplemented
from appliance.types import EngineStats, ModelSignature, Tensor


class LlamaEngine(Engine):
    """See the module. ``queue_max``: calls that may wait."""

    def __init__(self, parts: Parts, accounts: Accounts, clock: Clock, queue_max: int) -> None:
        self._parts = parts
        self._model = parts.model
        self._generation = parts.generation
        self._embedder = parts.embedder
        self._accounts = accounts
        self._clock = clock
        self._queue_max = queue_max
        own = parts.spec.limits
        context = min(self._model.context_tokens, own.max_context or self._model.context_tokens)
        self._bounds = Bounds(context, own.max_tokens, self._model.vocab.size)
        self._vectors_next = True
        self._numbers = 0

    def signature(self) -> ModelSignature:
        generates = self._generation is not None
        return language_signature(
            context_tokens=self._bounds.context_tokens,
            embeds=self._embedder is not None and not self._embedder.reranks,
            chats=self._parts.prompts.chats and generates,
            reranks=self._embedder is not None and self._embedder.reranks,
            adapters=self._parts.adapters.names if generates else (),
        )

    def warm_up(self) -> None:
        if self._generation:
            self._generation.warm_up()

    # --- taking calls ------------------------------------------------------------------------------------------------

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:  # noqa: ARG002 - the contract
        if 0 < call.deadline_ns <= self._clock.monotonic_ns():
            raise too_late("before the call was taken")
        if isinstance(call, TokenizeCall):
            reply.finish(TokenizeDone(tokenize_text(self._model.vocab, call)))
        elif isinstance(call, GenerateCall):
            if self._generation is None:
                raise Unimplemented("this model only embeds; it does not generate text")
            self._check_queue(call)
            for sequence in self._prepare(self._generation, call, reply):
                self._generation.roster.line.push(sequence)
        elif isinstance(call, EmbedCall | RerankCall):
            embedder = required(self._embedder, call)
            self._check_queue(call)
            embedder.jobs.append(embedder.prepare(call, reply))
        else:
            raise Unimplemented("a language model takes Chat, Generate, Embed and Tokenize, or text_input as a stream")

    def _check_queue(self, call: GenerateCall | EmbedCall | RerankCall) -> None:
        waiting = self._waiting()
        if waiting >= self._queue_max and self._generation:
            # What came since the last step may not have to wait at all.
            self._generation.roster.admit()
            waiting = self._waiting()
        expected = 0
        if self._generation and isinstance(
            call, GenerateCall
        ):  # vectors take turns with answers: they don't stand in line
            roster = self._generation.roster
            ahead = roster.line.ahead_of(call.priority)
            expected = roster.expectation.wait_ns(ahead, len(roster.running)) if ahead and roster.full else 0
        if waiting >= self._queue_max:
            when = f"in about {in_words(expected)}" if expected else "later"
            raise ResourceExhausted(
                f"{waiting:,} calls wait for this model, at most {self._queue_max:,} may: try again {when}",
                reason="QUEUE_FULL",
            )
        left = call.deadline_ns - self._clock.monotonic_ns()
        if call.deadline_ns and expected > left:
            raise DeadlineExceeded(
                f"the call would start in about {in_words(expected)}, its deadline is in {in_words(left)}: allow more "
                "time, or try again later",
                reason="DEADLINE_UNREACHABLE",
            )

    def _prepare(self, generation: Generation, call: GenerateCall, reply: Reply) -> Iterator[Sequence]:
        """One sequence for each answer; everything is checked before the first is given."""
        check_options(call, self._bounds)
        self._parts.adapters.check(call.adapter)
        plan = plan_sampling(call.sampling, self._parts.spec.llama.sampling)
        prompt = self._parts.prompts.build(call)
        answers = Answers(reply, call.n)
        grammar = generation.compile(prompt)
        most = most_tokens(call.max_tokens, len(prompt.tokens), self._bounds)
        for index in range(call.n):
            own = _with_seed(plan, plan.seed + index)
            mask = grammar.start() if grammar else None
            chooser = Chooser(call, own, self._model.vocab, self._model.context_tokens, mask)
            chooser.see(prompt.tokens)
            self._numbers += 1
            piece = self._piece_of(prompt)
            yield Sequence(self._numbers, call, index, answers, prompt, chooser, own.seed, most, piece)

    def _piece_of(self, prompt: Prompt) -> Callable[[int], bytes]:
        vocab, shown = self._model.vocab, prompt.shown
        if not shown:
            return vocab.piece
        return lambda token: vocab.shown_piece(token) if token in shown else vocab.piece(token)

    # --- steps -------------------------------------------------------------------------------------------------------

    def has_work(self) -> bool:
        if self._embedder and self._embedder.jobs:
            return True
        return self._generation is not None and self._generation.roster.has_work()

    def step(self) -> None:
        embedder, generation = self._embedder, self._generation
        if embedder:
            self._sweep_vectors(embedder)
        generating = generation is not None and generation.roster.has_work()
        if embedder and embedder.jobs and (self._vectors_next or not generating):
            self._vectors_next = False
            self._compute_vectors(embedder)
        elif generation and generating:
            self._vectors_next = True
            generation.step()

    def _sweep_vectors(self, embedder: Embedder) -> None:
        now = self._clock.monotonic_ns()
        for job in [j for j in embedder.jobs if gone(j, now)]:
            embedder.jobs.remove(job)
            self._drop(job, "while the texts were computed" if job.started_ns else "in the queue")

    def _drop(self, waiter: Waiter, where: str) -> None:
        if not expired(waiter, self._clock.monotonic_ns()):
            self._accounts.cancelled()
            return
        self._accounts.failed(waiter.reply.arrived_ns)
        # The loop's Reply looks at the deadline too, and may have told it already.
        if not waiter.reply.cancelled:
            waiter.reply.fail(too_late(where))

    def _compute_vectors(self, embedder: Embedder) -> None:
        began = time.perf_counter_ns()
        over = embedder.step(self._clock.monotonic_ns())
        self._accounts.computed(time.perf_counter_ns() - began)
        for job in over:
            self._end_vectors(job)

    def _end_vectors(self, job: VectorJob) -> None:
        if job.error and not job.reply.cancelled:
            self._accounts.failed(job.reply.arrived_ns)
            job.reply.fail(job.error)
        elif gone(job, self._clock.monotonic_ns()):
            self._drop(job, "while the texts were computed")
        else:
            self._accounts.succeeded(job.reply.arrived_ns, job.started_ns)
            self._accounts.tokens(job.prompt_tokens, 0)
            job.answer()

    # --- facts -------------------------------------------------------------------------------------------------------

    def _waiting(self) -> int:
        """Calls, not answers: those of one call wait as one."""
        waiting = len({s.answers for s in self._generation.roster.line}) if self._generation else 0
        return waiting + (len(self._embedder.jobs) if self._embedder else 0)

    def shares_cores(self) -> bool:
        return not self._model.on_device

    def stats(self) -> EngineStats:
        if self._generation is None:
            return self._accounts.snapshot(waiting=self._waiting(), running=0)
        roster = self._generation.roster
        cache = roster.cache
        return self._accounts.snapshot(
            waiting=self._waiting(),
            running=len({s.answers for s in roster.running}),
            kv=(cache.tokens, cache.used, cache.kept),
        )

    def close(self) -> None:
        self._parts.close()


def _with_seed(plan: SamplingPlan, seed: int) -> SamplingPlan:
    return msgspec.structs.replace(plan, seed=seed & SEED_MAX)
