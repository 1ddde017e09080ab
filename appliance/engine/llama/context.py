"""A llama.cpp context: its KV cache, one batch that is filled through numpy, and decode with typed outcomes.

Everything that llama.cpp would answer with an abort of the process (a batch over n_batch, a sequence id out of range, a
negative position) is a ValueError here: a bug of ours, but one that costs less.
"""

import ctypes
from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.engine.llama.model import LlamaModel
from appliance.engine.llama.native import C
from appliance.engine.llama.threadpool import attach_threads
from appliance.engine.llama.watch import StepWatch
from appliance.errors import ResourceExhausted


class Decoded(Enum):
    """How a decode ended; ``llama_decode`` in llama.h. All but DONE leave the cache to be cut back by the caller."""

    DONE = "done"
    NO_ROOM = "no room in the KV cache"
    ABORTED = "aborted"
    INVALID = "invalid batch"
    FAILED = "failed"


class Batch:
    """Room for ``capacity`` tokens, each of one sequence, in arrays that llama.cpp reads in place."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._token = np.zeros(capacity, np.int32)
        self._pos = np.zeros(capacity, np.int32)
        self._seq = np.zeros(capacity, np.int32)
        self._output = np.zeros(capacity, np.int8)
        self._one = np.ones(capacity, np.int32)
        self._seq_pointers = self._seq.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)
        self.native = C.llama_batch()
        self.native.token = self._token.ctypes.data_as(ctypes.POINTER(C.llama_token))
        self.native.pos = self._pos.ctypes.data_as(ctypes.POINTER(C.llama_pos))
        self.native.n_seq_id = self._one.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
        self.native.seq_id = self._seq_pointers.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(C.llama_seq_id)))
        self.native.logits = self._output.ctypes.data_as(ctypes.POINTER(ctypes.c_int8))
        self.count = 0

    def clear(self) -> None:
        """Empties the batch."""
        self.count = 0

    def add(
        self, tokens: Sequence[int], position: int, seq_id: int, *, output_last: bool, output_all: bool = False
    ) -> int:
        """Appends consecutive tokens of one sequence; gives the index of the last one, where its output will be."""
        start, end = self.count, self.count + len(tokens)
        if not tokens or end > self.capacity or position < 0 or seq_id < 0:
            raise ValueError(f"{len(tokens)} tokens at {position} of sequence {seq_id} do not fit into the batch")
        self._token[start:end] = tokens
        self._pos[start:end] = range(position, position + len(tokens))
        self._seq[start:end] = seq_id
        self._output[start:end] = output_all
        self._output[end - 1] |= output_last
        self.count = end
        return end - 1


class Context:
    """A computing context of ``model`` for up to ``sequences`` sequences. Owned by one thread."""

    def __init__(
        self,
        model: LlamaModel,
        *,
        tokens: int,
        batch_tokens: int,
        threads: int,
        sequences: int = 1,
        pooling: int | None = None,
    ) -> None:
        self.outputs_max = batch_tokens
        params = C.llama_context_default_params()
        params.n_ctx = tokens
        params.n_batch = params.n_ubatch = batch_tokens
        params.n_seq_max = sequences
        params.kv_unified = True  # the sequences share the context's room instead of an equal part each
        params.n_threads = params.n_threads_batch = threads
        params.no_perf = True
        params.embeddings = pooling is not None
        if pooling is not None:
            params.pooling_type = pooling
        else:
            # What one decode may give; the buffers for logits grow with it. llama.cpp asserts n_seq_max as the least.
            self.outputs_max = params.n_outputs_max = max(sequences, 1)
        self._vocab_size = model.vocab.size
        self._sequences = sequences
        self._watch: StepWatch | None = None
        self.tokens = tokens
        self.handle: Any = C.llama_init_from_model(model.handle, params)
        if not self.handle:
            raise ResourceExhausted(
                f"no memory for a context of {tokens:,} tokens: name a smaller llama.context_tokens in model.toml",
                reason="CONTEXT_MEMORY",
            )
        attach_threads(self.handle, threads)
        self.batch = Batch(batch_tokens)
        # None for models without a memory (BERT and its kind).
        self._memory: Any = C.llama_get_memory(self.handle)

    def decode(self, watch: StepWatch | None = None) -> Decoded:
        """Computes the batch; an armed ``watch`` may stop it."""
        self.batch.native.n_tokens = self.batch.count
        if not self.batch.count or self.batch._seq[: self.batch.count].max() >= self._sequences:
            return Decoded.INVALID
        if watch is not self._watch:
            callback, data = (watch.callback, watch.data) if watch else (C.ggml_abort_callback(), None)
            C.llama_set_abort_callback(self.handle, callback, data)
            self._watch = watch
        status = C.llama_decode(self.handle, self.batch.native)
        return _STATUS.get(status, Decoded.FAILED)

    def cut(self, seq_id: int, start: int, end: int = -1) -> bool:
        """Forgets what the sequence has from ``start`` to before ``end`` (-1: all that follows).

        A cell that other sequences have too stays theirs. False when the model's memory cannot forget a part.
        """
        return not self._memory or bool(C.llama_memory_seq_rm(self._memory, seq_id, start, end))

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Gives ``target`` the tokens that ``source`` has from ``start`` to before ``end``: the same cells, no copy.

        Takes 10 us for a cache of 8,192 cells, whatever the number of tokens.
        """
        if not 0 <= source < self._sequences or not 0 <= target < self._sequences or not 0 <= start <= end:
            raise ValueError(f"tokens {start} to {end} of sequence {source} cannot be shared with {target}")
        if self._memory:
            C.llama_memory_seq_cp(self._memory, source, target, start, end)

    def clear(self) -> None:
        """Forgets all sequences."""
        if self._memory:
            C.llama_memory_clear(self._memory, False)

    def logits(self, index: int) -> npt.NDArray[np.float32]:
        """The logits, float32 [vocabulary], of the batch's token ``index``: a view that the next decode overwrites."""
        return np.ctypeslib.as_array(C.llama_get_logits_ith(self.handle, index), (self._vocab_size,))

    def embedding(self, seq_id: int, size: int) -> npt.NDArray[np.float32]:
        """The pooled embedding, float32 [size], of a sequence: a copy."""
        return np.ctypeslib.as_array(C.llama_get_embeddings_seq(self.handle, seq_id), (size,)).copy()

    def close(self) -> None:
        """Gives the context's memory back."""
        if self.handle:
            C.llama_free(self.handle)
            self.handle = None


_STATUS = {0: Decoded.DONE, 1: Decoded.NO_ROOM, 2: Decoded.ABORTED, -1: Decoded.INVALID}
