"""An Embedder over a tiny model, without the engine around it: calls in, batches one by one, answers out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from llama_harness import RecordingReply

from appliance.answers import EmbedDone, RerankDone
from appliance.calls import EmbedCall, RerankCall
from appliance.engine.llama.context import Decoded
from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.vectors.embed import Embedder
from appliance.model_spec import LlamaOptions

STEPS_MAX = 1_000


class VectorRig:
    """``batches``: the token ids of each batch that was computed, a list a text."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.batches: list[list[list[int]]] = []
        self.outcomes: list[Decoded] = []
        self._decode = embedder.context.decode
        embedder.context.decode = self._watched  # type: ignore[method-assign]  # seen from outside, computed all the same

    def _watched(self, *_: object) -> Decoded:
        batch = self.embedder.context.batch
        ids, sequences = batch._token[: batch.count], batch._seq[: batch.count]
        self.batches.append([ids[sequences == n].tolist() for n in sorted(set(sequences.tolist()))])
        return self.outcomes.pop(0) if self.outcomes else self._decode()

    def submit(self, call: EmbedCall | RerankCall) -> RecordingReply:
        reply = RecordingReply()
        self.embedder.jobs.append(self.embedder.prepare(call, reply))
        return reply

    def step(self, now_ns: int = 1) -> None:
        """As the engine does it."""
        for job in self.embedder.step(now_ns):
            assert job not in self.embedder.jobs
            if job.error:
                job.reply.fail(job.error)
            else:
                job.answer()

    def run(self) -> None:
        for _ in range(STEPS_MAX):
            if not self.embedder.jobs:
                return
            self.step()
        raise AssertionError("the jobs never came to an end")

    def embed(self, *texts: str) -> np.ndarray:
        reply = self.submit(EmbedCall(texts=texts))
        self.run()
        return rows(reply)

    def rerank(self, query: str, *documents: str) -> tuple[float, ...]:
        reply = self.submit(RerankCall(query=query, documents=documents))
        self.run()
        return scores(reply)


def rows(reply: RecordingReply) -> np.ndarray:
    assert isinstance(reply.final, EmbedDone), reply.error
    (buffer,) = reply.buffers
    return np.frombuffer(buffer, "<f4").reshape(reply.final.count, reply.final.dimensions)


def scores(reply: RecordingReply) -> tuple[float, ...]:
    assert isinstance(reply.final, RerankDone), reply.error
    return reply.final.scores


@contextmanager
def vector_rig(path: Path, options: LlamaOptions | None = None) -> Iterator[VectorRig]:
    """A rig over the GGUF file at ``path``."""
    model = LlamaModel(path, options or LlamaOptions())
    try:
        embedder = Embedder(model, 1)
        try:
            yield VectorRig(embedder)
        finally:
            embedder.close()
    finally:
        model.close()
