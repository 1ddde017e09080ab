"""What a model makes of whole texts, in a context of its own beside the one that generates: vectors, or scores.

Pooling sees only one micro-batch, so a text is computed in one piece; the texts of many calls go together into a batch.

For the engine: ``prepare`` a call and append it to ``jobs``; take out of ``jobs`` whom nobody waits for any more;
``step`` while there are jobs. What ``step`` gives is over and out of the queue already: ``error`` goes to the reply, or
``answer()`` sends what was computed.
"""

from collections import Counter, deque

import numpy as np

from appliance import limits
from appliance.calls import EmbedCall, RerankCall
from appliance.engine.base import Reply
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.native import C
from appliance.engine.llama.vectors.jobs import EmbedJob, RerankJob, VectorJob
from appliance.engine.llama.vectors.plan import Room, plan_batch
from appliance.engine.llama.vectors.rerank import RerankInputs
from appliance.engine.llama.vectors.texts import embed_inputs
from appliance.errors import InternalError, Unimplemented


class Embedder:
    """Computes what ``model``, whose ``pooling`` must not be None, makes of whole texts; owns the queue of ``jobs``."""

    def __init__(self, model: LlamaModel, threads: int) -> None:
        self._model = model
        self.tokens_max = min(model.context_tokens, limits.embed_tokens_max)
        self.context = Context(
            model,
            tokens=self.tokens_max,
            batch_tokens=self.tokens_max,
            threads=threads,
            sequences=limits.embed_sequences_max,
            pooling=model.pooling,
        )
        self.reranks = model.reranks
        self._row_size = 1 if model.reranks else model.embedding_size
        self._pairs = RerankInputs(model, self.tokens_max) if model.reranks else None
        self.jobs: deque[VectorJob] = deque()

    def prepare(self, call: EmbedCall | RerankCall, reply: Reply) -> VectorJob:
        """Checks and tokenizes; InvalidArgument with the text's number and the bound, Unimplemented as ``required``."""
        required(self, call)
        if isinstance(call, EmbedCall):
            texts = embed_inputs(call, self._model.vocab, self.tokens_max)
            return EmbedJob(call, reply, texts, self._row_size)
        assert self._pairs
        return RerankJob(call, reply, self._pairs.build(call))

    def step(self, now_ns: int = 0) -> list[VectorJob]:
        """One batch of the waiting jobs' texts; gives the jobs that are over, which are out of ``jobs`` now.

        Each has its ``error`` or is complete. ``now_ns`` is when those have ``started`` whose first text this is.
        """
        jobs = [job for job in self.jobs if not job.reply.cancelled]
        room = Room(limits.embed_sequences_max, min(limits.embed_step_tokens, self.context.batch.capacity))
        owners = [jobs[number] for number in plan_batch(jobs, room)]
        if not owners:
            return []
        self._fill(owners)
        served = list(dict.fromkeys(owners))
        for job in served:
            job.started_ns = job.started_ns or now_ns
        outcome = self.context.decode()
        if outcome is Decoded.DONE:
            self._share_out(owners, shared=len(served) > 1)
        else:
            _blame(served, outcome)
        self.context.clear()
        self._to_the_end(served)
        return [job for job in served if job.error or job.complete]

    def _fill(self, owners: list[VectorJob]) -> None:
        """Puts the texts into the batch, each as the sequence of its place in it."""
        batch = self.context.batch
        batch.clear()
        before: Counter[VectorJob] = Counter()
        for seq_id, job in enumerate(owners):
            tokens = job.inputs[job.computed + before[job]]
            batch.add(tokens, 0, seq_id, output_last=True, output_all=True)
            before[job] += 1

    def _share_out(self, owners: list[VectorJob], *, shared: bool) -> None:
        """Gives each job its rows, up to the first that is not numbers.

        Attention multiplies other texts' values by zero, and zero times NaN is NaN: in a shared batch nobody knows whose
        it is, so whoever got some tries it again alone.
        """
        broken: set[VectorJob] = set()
        for seq_id, job in enumerate(owners):
            row = self.context.embedding(seq_id, self._row_size)
            if job not in broken and np.isfinite(row).all():
                job.take(row)
            elif shared:
                broken.add(job)
                job.alone = True
            else:
                broken.add(job)
                job.error = InternalError("the model gave a vector with NaN or infinity", reason="NUMERIC")
        memory = C.llama_get_memory(self.context.handle)
        if broken and memory:
            C.llama_memory_clear(memory, True)  # or the next batch would find NaN in cells that it masks

    def _to_the_end(self, served: list[VectorJob]) -> None:
        """Whoever got something stands behind whoever got nothing; whoever is over leaves."""
        for job in served:
            self.jobs.remove(job)
            if not (job.error or job.complete):
                self.jobs.append(job)

    def close(self) -> None:
        """Gives the context back; jobs in hand are forgotten."""
        self.jobs.clear()
        self.context.close()


def _blame(served: list[VectorJob], outcome: Decoded) -> None:
    """A batch could not be computed: a job that was alone in it ends; of several, each tries it again alone."""
    if len(served) == 1:
        served[0].error = InternalError(f"the model could not compute the texts ({outcome.value})")
    for job in served:
        job.alone = True


def required(embedder: Embedder | None, call: EmbedCall | RerankCall) -> Embedder:
    """The embedder when it can serve ``call``; else Unimplemented with what can be done about it."""
    reranks = embedder is not None and embedder.reranks
    if isinstance(call, RerankCall) and not reranks:
        raise Unimplemented(
            "this model does not rerank; use one whose GGUF file says pooling_type rank and has a classification head",
            reason="NOT_A_RERANKER",
        )
    if isinstance(call, EmbedCall) and reranks:
        raise Unimplemented(
            'this model reranks, its output is a score and no vector; use Rerank, or set llama.pooling to "mean", '
            '"cls" or "last" in its model.toml',
            reason="NO_POOLING",
        )
    if embedder is None:
        raise Unimplemented(
            "this model does not say how to make one vector of a text; to embed with it all the same, set "
            'llama.pooling to "mean", "cls" or "last" in its model.toml',
            reason="NO_POOLING",
        )
    return embedder
