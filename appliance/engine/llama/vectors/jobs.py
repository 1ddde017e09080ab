"""Calls that want something of whole texts, while they are computed: a vector of each, or a score of each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from appliance import limits
from appliance.answers import EmbedDone, RerankDone
from appliance.calls import Call, EmbedCall, RerankCall
from appliance.engine.base import Reply
from appliance.errors import ApplianceError


class VectorJob(ABC):
    """One call: the token ids of its texts, ``inputs``, of which the first ``computed`` are done.

    ``error`` says why the job is over without an answer. ``alone``: a batch with it and others failed, and it must show by
    itself now whether that was its fault. ``started_ns`` is 0 until a text of it is in a batch.
    """

    def __init__(self, call: Call, reply: Reply, inputs: list[list[int]]) -> None:
        self.reply = reply
        self.deadline_ns = call.deadline_ns
        self.inputs = inputs
        self.computed = 0
        self.started_ns = 0
        self.alone = False
        self.error: ApplianceError | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all texts."""
        return sum(map(len, self.inputs))

    @property
    def pending(self) -> Sequence[int]:
        """Tokens of the texts that come next, as many texts as a batch may take."""
        return [len(tokens) for tokens in self.inputs[self.computed : self.computed + limits.embed_sequences_max]]

    @property
    def complete(self) -> bool:
        """Whether every text is computed."""
        return self.computed == len(self.inputs)

    def take(self, row: npt.NDArray[np.float32]) -> None:
        """What the model gave for the next text: finite numbers."""
        self._keep(row)
        self.computed += 1

    @abstractmethod
    def _keep(self, row: npt.NDArray[np.float32]) -> None:
        """Stores the row of text number ``computed``."""

    @abstractmethod
    def answer(self) -> None:
        """Sends the answer of a complete job."""


class EmbedJob(VectorJob):
    """An EmbedCall: ``rows`` float32 [texts, dimensions]."""

    def __init__(self, call: EmbedCall, reply: Reply, inputs: list[list[int]], dimensions: int) -> None:
        super().__init__(call, reply, inputs)
        self._normalize = call.normalize
        self.rows = np.zeros((len(inputs), dimensions), np.float32)

    def _keep(self, row: npt.NDArray[np.float32]) -> None:
        length = float(np.linalg.norm(row))
        self.rows[self.computed] = row / np.float32(length) if self._normalize and length > 0 else row

    def answer(self) -> None:
        count, dimensions = self.rows.shape
        vectors = self.rows.astype("<f4", copy=False).tobytes()
        self.reply.finish(EmbedDone(count, dimensions, self.prompt_tokens), [vectors])


class RerankJob(VectorJob):
    """A RerankCall: a score for each document, the first number of what the model's classification head gives."""

    def __init__(self, call: RerankCall, reply: Reply, inputs: list[list[int]]) -> None:
        super().__init__(call, reply, inputs)
        self.scores: list[float] = []

    def _keep(self, row: npt.NDArray[np.float32]) -> None:
        self.scores.append(float(row[0]))

    def answer(self) -> None:
        self.reply.finish(RerankDone(tuple(self.scores), self.prompt_tokens))
