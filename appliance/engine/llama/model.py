"""Loads a GGUF file: checks it, hands it to llama.cpp, and keeps what the engine must know of the model."""

import logging
import os
from pathlib import Path
from typing import Any

from appliance import events, limits
from appliance.engine.llama.gguf_check import GgufHeader, check_gguf
from appliance.engine.llama.native import C, expect, start_backend
from appliance.engine.llama.vocab import Vocab
from appliance.errors import InvalidArgument, Unimplemented
from appliance.model_spec import LlamaOptions

_log = logging.getLogger(__name__)
_POOLINGS = {
    "none": C.LLAMA_POOLING_TYPE_NONE,
    "mean": C.LLAMA_POOLING_TYPE_MEAN,
    "cls": C.LLAMA_POOLING_TYPE_CLS,
    "last": C.LLAMA_POOLING_TYPE_LAST,
}


class LlamaModel:
    """A model's weights and facts. ``close`` after the contexts that were made of it.

    ``generates``: it continues text. ``pooling``: what it makes of a whole text, None if nothing says how: one vector,
    or, where it ``reranks``, one score. ``layout``: the file's tensors.
    """

    def __init__(self, path: Path, options: LlamaOptions) -> None:
        header = check_gguf(path)
        start_backend()
        # All layers, where there is a device that takes them: the cores only wait for it.
        self.on_device = options.gpu_layers < 0 and bool(C.llama_supports_gpu_offload())
        self.architecture = str(header.values.get("general.architecture", ""))
        self.layout = header.layout
        self._progress = C.llama_progress_callback(_Progress())
        params = C.llama_model_default_params()
        params.n_gpu_layers = options.gpu_layers
        params.progress_callback = self._progress
        self.handle: Any = C.llama_model_load_from_file(os.fsencode(path), params)
        if not self.handle:
            raise InvalidArgument(
                f'llama.cpp cannot load the model (architecture "{self.architecture[:64]}", '
                f"{header.tensors:,} tensors); the engine's log says why",
                reason="MODEL_NOT_LOADABLE",
            )
        try:
            self._read_facts(header, options)
        except BaseException:
            self.close()
            raise

    def _read_facts(self, header: GgufHeader, options: LlamaOptions) -> None:
        if C.llama_model_has_encoder(self.handle) and C.llama_model_has_decoder(self.handle):
            raise Unimplemented("encoder-decoder models (T5 and its kind) are not served; export a decoder-only model")
        if C.llama_model_is_diffusion(self.handle):
            raise Unimplemented("diffusion language models are not served")
        self.vocab = Vocab(expect(C.llama_model_get_vocab(self.handle), "vocabulary"))
        if not self.vocab.size:
            raise InvalidArgument("the model file has no vocabulary", reason="MODEL_NOT_LOADABLE")
        self.embedding_size: int = C.llama_model_n_embd_out(self.handle)
        # A length of 2**31 comes out negative.
        self.context_trained: int = max(0, C.llama_model_n_ctx_train(self.handle))
        # Its memory is one state a sequence, not a cell a token: nothing of it can be shared or cut.
        self.recurrent = bool(C.llama_model_is_recurrent(self.handle) or C.llama_model_is_hybrid(self.handle))
        causal = header.values.get(f"{self.architecture}.attention.causal", True)
        self.pooling = self._pooling(header, options)
        self.reranks = self.pooling == C.LLAMA_POOLING_TYPE_RANK
        # A reranker made of a language model answers in scores; a cache to generate with would be memory for nothing.
        self.generates = bool(causal) and bool(C.llama_model_has_decoder(self.handle)) and not self.reranks
        self.context_tokens = self._context_tokens(options)

    def _pooling(self, header: GgufHeader, options: LlamaOptions) -> int | None:
        if options.pooling != "model":
            return _POOLINGS[options.pooling] or None
        stated = header.values.get(f"{self.architecture}.pooling_type")
        if stated == C.LLAMA_POOLING_TYPE_RANK and not self._scores():
            return None
        return int(stated) if isinstance(stated, int) and stated > 0 else None

    def _scores(self) -> bool:
        """Whether the classification head gives one score for each text, and not the odds of several classes.

        Without a head llama.cpp would take numbers of a whole vector for scores. Qwen3's head says "yes" and "no".
        """
        outputs = C.llama_model_n_cls_out(self.handle)
        head, small = self.layout.get("cls.output.weight"), self.layout.get("cls.weight")
        if head is None and not (small is not None and small.shape[1:] in ((), (1,))):
            _log.warning(
                "the model has the pooling of a reranker but no head that scores: it does not rerank",
                extra=events.MODEL_LIMITED.of(),
            )
            return False
        if outputs != 1 and (C.llama_model_cls_label(self.handle, 0) or b"") != b"yes":
            _log.warning(
                "the model tells %d classes apart: it does not rerank", outputs, extra=events.MODEL_LIMITED.of()
            )
            return False
        return True

    def _context_tokens(self, options: LlamaOptions) -> int:
        named = options.context_tokens
        if not named:
            return min(self.context_trained or limits.context_tokens_default_max, limits.context_tokens_default_max)
        if not 0 < named <= limits.context_tokens_max:
            raise InvalidArgument(
                f"llama.context_tokens is {named:,}, allowed are 1 to {limits.context_tokens_max:,} (0: as trained)"
            )
        positions = self.layout.get("position_embd.weight")
        if positions and named > positions.shape[-1]:
            # llama.cpp would look them up all the same, and end the process.
            raise InvalidArgument(
                f"llama.context_tokens is {named:,}, the model knows {positions.shape[-1]:,} positions: name no more"
            )
        if self.context_trained and named > self.context_trained:
            _log.warning(
                "context of %d tokens is more than the %d of the training",
                named,
                self.context_trained,
                extra=events.MODEL_LIMITED.of(),
            )
        return named

    def chat_template(self) -> str:
        """The template out of the model file; "" if it has none."""
        return (C.llama_model_chat_template(self.handle, None) or b"").decode(errors="replace")

    def close(self) -> None:
        """Gives the weights back."""
        if self.handle:
            C.llama_model_free(self.handle)
            self.handle = None


class _Progress:
    """Logs each tenth of a load."""

    def __init__(self) -> None:
        self._tenths = 0

    def __call__(self, progress: float, _data: Any) -> bool:
        tenths = int(progress * 10)
        if tenths > self._tenths:
            self._tenths = tenths
            _log.debug("loading weights: %d %%", tenths * 10)
        return True


def thread_count(options: LlamaOptions, given: int) -> int:
    """Threads of a context: the model's own number, else the daemon's, at most one for each core this process may use."""
    cores = len(os.sched_getaffinity(0))
    return min(options.threads or given or cores, cores)
