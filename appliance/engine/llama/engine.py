"""The engine of one GGUF model: takes calls into a bounded queue and computes them step by step.

A step is one batch: the next token of each running answer and at most ``prefill_step_tokens_max`` tokens of prompts.
One sequence runs at a time now; slots, planner and batch already speak of many.
"""

import time
from collections import deque

from appliance import limits
from appliance.calls import AnyCall, EmbedCall, GenerateCall, TokenizeCall, TokenizeDone
from appliance.clock import Clock
from appliance.engine.base import Engine, Reply
from appliance.engine.llama.accounts import Accounts
from appliance.engine.llama.chat.prompt import PromptBuilder, tokenize_text
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.sampling.chain import Sampler, plan_sampling, token_choice, usable
from appliance.engine.llama.schedule.plan import plan_step
from appliance.engine.llama.sequence import (
    Limits,
    Sequence,
    Slot,
    Waiter,
    check_options,
    expired,
    gone,
    nobody_left,
    too_late,
)
from appliance.engine.llama.signature import language_signature
from appliance.engine.llama.vectors.embed import Embedder, required
from appliance.errors import (
    ApplianceError,
    FailedPrecondition,
    InternalError,
    ResourceExhausted,
    Unimplemented,
)
from appliance.model_spec import ModelSpec
from appliance.types import EngineStats, ModelSignature, Tensor


class LlamaEngine(Engine):
    """See the module. ``context`` is None for a model that only embeds, ``embedder`` for one that doesn't."""

    def __init__(
        self,
        spec: ModelSpec,
        model: LlamaModel,
        context: Context | None,
        embedder: Embedder | None,
        prompts: PromptBuilder,
        clock: Clock,
        queue_max: int,
    ) -> None:
        self._spec = spec
        self._model = model
        self._context = context
        self._embedder = embedder
        self._prompts = prompts
        self._clock = clock
        self._queue_max = queue_max
        self._bounds = Limits(model.context_tokens, spec.limits.max_tokens)
        self._queue: deque[Sequence] = deque()
        self._running: list[Sequence] = []
        self._free_slots = [Slot(0)]
        self._accounts = Accounts(clock)
        self._embed_next = True

    def signature(self) -> ModelSignature:
        return language_signature(
            context_tokens=self._model.context_tokens,
            embeds=self._embedder is not None,
            chats=self._prompts.chats and self._context is not None,
        )

    def warm_up(self) -> None:
        if self._context is None:
            return
        batch = self._context.batch
        batch.clear()
        index = batch.add([0], 0, 0, output_last=True)
        if self._context.decode() is not Decoded.DONE:
            raise FailedPrecondition("the model cannot compute a single token", reason="MODEL_BROKEN")
        if not usable(self._context.logits(index)):
            raise FailedPrecondition(
                "the model's logits are NaN or infinite: its weights are damaged", reason="MODEL_BROKEN"
            )
        self._context.clear()

    # --- taking calls ------------------------------------------------------------------------------------------------

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:  # noqa: ARG002 - the contract
        if 0 < call.deadline_ns <= self._clock.monotonic_ns():
            raise too_late("before the call was taken")
        if isinstance(call, TokenizeCall):
            reply.finish(TokenizeDone(tokenize_text(self._model.vocab, call)))
        elif isinstance(call, GenerateCall):
            self._check_queue()
            self._queue.append(self._prepare(call, reply))
        elif isinstance(call, EmbedCall):
            embedder = required(self._embedder)
            self._check_queue()
            embedder.jobs.append(embedder.prepare(call, reply))
        else:
            raise Unimplemented("a language model takes Chat, Generate, Embed and Tokenize, or text_input as a stream")

    def _check_queue(self) -> None:
        if self._waiting() >= self._queue_max:
            raise ResourceExhausted(
                f"{self._waiting():,} calls wait for this model, at most {self._queue_max:,} may: try again later",
                reason="QUEUE_FULL",
            )

    def _prepare(self, call: GenerateCall, reply: Reply) -> Sequence:
        if self._context is None:
            raise Unimplemented("this model only embeds; it does not generate text")
        check_options(call, self._bounds)
        plan = plan_sampling(call.sampling, self._spec.llama.sampling)
        prompt = self._prompts.build(call)
        sampler = Sampler(plan, self._model.vocab.size, self._model.context_tokens)
        sampler.see(prompt)
        return Sequence(call, reply, prompt, plan, sampler, self._bounds)

    # --- steps -------------------------------------------------------------------------------------------------------

    def has_work(self) -> bool:
        return bool(self._running or self._waiting())

    def step(self) -> None:
        self._sweep()
        generating = bool(self._running or self._queue)
        if self._embedder and self._embedder.jobs and (self._embed_next or not generating):
            self._embed_next = False
            self._embed(self._embedder)
        elif generating and self._context:
            self._embed_next = True
            self._admit(self._context)
            self._compute(self._context)
        self._sweep()

    def _sweep(self) -> None:
        """Lets go of every call that nobody waits for any more."""
        now = self._clock.monotonic_ns()
        for sequence in [s for s in self._running if gone(s, now)]:
            self._drop(sequence, sequence.started_ns)
            self._release(sequence)
        for sequence in [s for s in self._queue if gone(s, now)]:
            self._drop(sequence, 0)
            self._queue.remove(sequence)
            sequence.sampler.close()
        if self._embedder:
            for job in [j for j in self._embedder.jobs if gone(j, now)]:
                self._drop(job, job.started_ns)
                self._embedder.jobs.remove(job)

    def _drop(self, waiter: Waiter, started_ns: int) -> None:
        if not expired(waiter, self._clock.monotonic_ns()):
            self._accounts.cancelled()
            return
        self._accounts.failed(waiter.reply.arrived_ns)
        # The loop's Reply looks at the deadline too, and may have told it already.
        if not waiter.reply.cancelled:
            waiter.reply.fail(too_late("while the answer was computed" if started_ns else "in the queue"))

    def _admit(self, context: Context) -> None:
        while self._queue and self._free_slots:
            sequence, slot = self._queue.popleft(), self._free_slots.pop()
            keep = slot.shared_prefix(sequence.tokens)
            if not context.cut(slot.seq_id, keep):
                # Recurrent models keep one state, not one for each token: all or nothing.
                context.cut(slot.seq_id, 0)
                keep = 0
            sequence.slot, sequence.position, sequence.reused_tokens = slot, keep, keep
            sequence.started_ns = self._clock.monotonic_ns()
            self._running.append(sequence)

    def _compute(self, context: Context) -> None:
        batch = context.batch
        batch.clear()
        parts: list[tuple[Sequence, int, int]] = []
        for share in plan_step(self._running, min(batch.capacity, limits.prefill_step_tokens_max)):
            sequence = self._running[share.index]
            start, slot = sequence.position, sequence.slot
            assert slot is not None
            tokens = sequence.tokens[start : start + share.count]
            index = batch.add(tokens, start, slot.seq_id, output_last=share.last)
            parts.append((sequence, share.count, index if share.last else -1))
        long = batch.count >= limits.abortable_step_tokens_min
        began = time.perf_counter_ns()
        outcome = context.decode(nobody_left([p[0] for p in parts], self._clock) if long else None)
        self._accounts.computed(time.perf_counter_ns() - began)
        if outcome is not Decoded.DONE:
            self._undo(context, [p[0] for p in parts], outcome)
            return
        for sequence, count, index in parts:
            sequence.position += count
            # Who is gone by now gets nothing more; the sweep takes it.
            if index >= 0 and not sequence.reply.cancelled:
                self._choose(context, sequence, index)

    def _undo(self, context: Context, sequences: list[Sequence], outcome: Decoded) -> None:
        """Cuts the cache back to before the step; a failure ends these calls, an abort leaves them to the sweep."""
        sound = outcome in (Decoded.ABORTED, Decoded.NO_ROOM)
        for sequence in sequences:
            if sequence.slot and not (sound and context.cut(sequence.slot.seq_id, sequence.position)):
                context.cut(sequence.slot.seq_id, 0)
                sequence.position = 0
        if outcome is Decoded.ABORTED:
            return
        for sequence in sequences:
            if outcome is Decoded.NO_ROOM:
                self._fail(sequence, ResourceExhausted("the KV cache is full: try again later", reason="KV_CACHE_FULL"))
            else:
                self._fail(sequence, InternalError(f"the model could not compute a step ({outcome.value})"))

    def _choose(self, context: Context, sequence: Sequence, index: int) -> None:
        """Takes the next token out of the logits at ``index``, sends it, and ends the call if it is the last."""
        now = self._clock.monotonic_ns()
        sequence.first_token_ns = sequence.first_token_ns or now
        logits = context.logits(index)
        if not usable(logits):
            self._fail(sequence, InternalError("the model's logits are NaN or infinite", reason="NUMERIC"))
            return
        vocab = self._model.vocab
        token = sequence.sampler.sample(context, index)
        if vocab.ends_turn(token):
            self._finish(sequence, "stop")
            return
        top = sequence.logprobs_top
        reason = sequence.take(token, vocab.piece(token), token_choice(logits, token, top, vocab) if top else None)
        if reason:
            self._finish(sequence, reason)

    def _finish(self, sequence: Sequence, reason: str) -> None:
        now = self._clock.monotonic_ns()
        self._accounts.succeeded(sequence.reply.arrived_ns, sequence.started_ns)
        self._accounts.tokens(sequence.prompt_tokens, sequence.generated)
        self._release(sequence)
        sequence.done(reason, now)

    def _fail(self, sequence: Sequence, error: ApplianceError) -> None:
        self._accounts.failed(sequence.reply.arrived_ns)
        self._release(sequence)
        sequence.reply.fail(error)

    def _release(self, sequence: Sequence) -> None:
        """Frees the slot; what it has computed stays in the cache for the next turn of the conversation."""
        self._running.remove(sequence)
        sequence.sampler.close()
        if sequence.slot:
            sequence.slot.cached = sequence.tokens[: sequence.position]
            self._free_slots.append(sequence.slot)
            sequence.slot = None

    def _embed(self, embedder: Embedder) -> None:
        job = embedder.jobs[0]
        job.started_ns = job.started_ns or self._clock.monotonic_ns()
        began = time.perf_counter_ns()
        try:
            done = embedder.step(nobody_left([job], self._clock))
        except InternalError as error:
            embedder.jobs.remove(job)
            self._accounts.failed(job.reply.arrived_ns)
            job.reply.fail(error)
            return
        self._accounts.computed(time.perf_counter_ns() - began)
        if done and not gone(job, self._clock.monotonic_ns()):
            embedder.jobs.remove(job)
            self._accounts.succeeded(job.reply.arrived_ns, job.started_ns)
            self._accounts.tokens(job.prompt_tokens, 0)
            embedder.answer(job)

    # --- facts -------------------------------------------------------------------------------------------------------

    def _waiting(self) -> int:
        return len(self._queue) + (len(self._embedder.jobs) if self._embedder else 0)

    def stats(self) -> EngineStats:
        return self._accounts.snapshot(waiting=self._waiting(), running=len(self._running))

    def close(self) -> None:
        for sequence in [*self._running, *self._queue]:
            sequence.sampler.close()
        self._running.clear()
        self._queue.clear()
        if self._embedder:
            self._embedder.close()
        if self._context:
            self._context.close()
        self._model.close()
