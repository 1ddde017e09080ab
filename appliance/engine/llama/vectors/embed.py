"""Embeddings: texts in, one pooled vector each out, in a context of their own beside the one that generates.

Pooling sees only one micro-batch, so a text is computed in one piece; short texts go together into one batch.
"""

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from appliance import limits
from appliance.calls import EmbedCall, EmbedDone
from appliance.engine.base import Reply
from appliance.engine.llama.context import Context, Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.vocab import utf8
from appliance.errors import InternalError, InvalidArgument, Unimplemented


class EmbedJob:
    """State of one EmbedCall: ``rows`` float32 [texts, dimensions], of which ``done`` are computed."""

    def __init__(self, call: EmbedCall, reply: Reply, texts: list[list[int]], dimensions: int) -> None:
        self.reply = reply
        self.deadline_ns = call.deadline_ns
        self.texts = texts
        self.normalize = call.normalize
        self.rows = np.zeros((len(texts), dimensions), np.float32)
        self.done = 0
        self.started_ns = 0

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(map(len, self.texts))


class Embedder:
    """Computes embeddings of ``model``, whose ``pooling`` must not be None."""

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
        self.jobs: deque[EmbedJob] = deque()

    def prepare(self, call: EmbedCall, reply: Reply) -> EmbedJob:
        """Checks and tokenizes; raises InvalidArgument with the text's number and the bound."""
        if not 0 < len(call.texts) <= limits.embed_texts_max:
            raise InvalidArgument(f"{len(call.texts):,} texts to embed, allowed: 1 to {limits.embed_texts_max}")
        encoded = [utf8(text, f"text {number}") for number, text in enumerate(call.texts)]
        total = sum(map(len, encoded))
        if total > limits.prompt_bytes_max:
            raise InvalidArgument(f"texts of {total:,} bytes, at most {limits.prompt_bytes_max:,} are allowed")
        texts = [self._tokens(number, text) for number, text in enumerate(encoded)]
        return EmbedJob(call, reply, texts, self._model.embedding_size)

    def _tokens(self, number: int, text: bytes) -> list[int]:
        count = self._model.vocab.tokens_at_least(text)
        if count <= self.tokens_max:
            tokens = self._model.vocab.tokenize(text, add_special=True, parse_special=False)
            if not tokens:
                raise InvalidArgument(f"text {number} is empty", reason="PROMPT_EMPTY")
            if len(tokens) <= self.tokens_max:
                return tokens
            count = len(tokens)
        raise InvalidArgument(
            f"text {number} has {count:,} tokens or more, an embedding takes at most {self.tokens_max:,}: split it",
            reason="CONTEXT_OVERFLOW",
        )

    def step(self, abort: Callable[[], bool] | None) -> EmbedJob | None:
        """One batch of the first job's texts; gives the job back when it is complete.

        Raises InternalError when the batch failed; an aborted one is not counted and may be tried again.
        """
        job = self.jobs[0]
        batch = self.context.batch
        batch.clear()
        count = 0
        for tokens in job.texts[job.done : job.done + limits.embed_sequences_max]:
            if count and (batch.count + len(tokens) > batch.capacity or batch.count >= limits.embed_step_tokens):
                break
            batch.add(tokens, 0, count, output_last=True, output_all=True)
            count += 1
        outcome = self.context.decode(abort)
        if outcome is Decoded.DONE:
            for index in range(count):
                job.rows[job.done + index] = self._row(index, job.normalize)
            job.done += count
        self.context.clear()
        if outcome not in (Decoded.DONE, Decoded.ABORTED):
            raise InternalError("the embedding could not be computed")
        return job if job.done == len(job.texts) else None

    def _row(self, seq_id: int, normalize: bool) -> npt.NDArray[np.float32]:
        row = self.context.embedding(seq_id, self._model.embedding_size)
        if not np.isfinite(row).all():
            raise InternalError("the model gave a vector with NaN or infinity", reason="NUMERIC")
        length = float(np.linalg.norm(row))
        return row / np.float32(length) if normalize and length > 0 else row

    def answer(self, job: EmbedJob) -> None:
        """Sends a complete job's vectors."""
        count, dimensions = job.rows.shape
        job.reply.finish(
            EmbedDone(count, dimensions, job.prompt_tokens), [job.rows.astype("<f4", copy=False).tobytes()]
        )

    def close(self) -> None:
        """Gives the context back; jobs in hand are forgotten."""
        self.jobs.clear()
        self.context.close()


def required(embedder: Embedder | None) -> Embedder:
    """The embedder, or Unimplemented with what an operator can do about it."""
    if embedder is None:
        raise Unimplemented(
            "this model does not say how to make one vector of a text; to embed with it all the same, set "
            'llama.pooling to "mean", "cls" or "last" in its model.toml',
            reason="NO_POOLING",
        )
    return embedder
