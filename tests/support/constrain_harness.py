"""Grammars over the vocabulary of a tiny GGUF model, and a sampler that tries everything a mask lets through."""

from pathlib import Path
from typing import Any

import numpy as np
from tiny_gguf import write_tiny_gguf

from appliance.engine.llama.constrain.compiler import Grammar
from appliance.engine.llama.native import C, start_backend
from appliance.engine.llama.vocab import Vocab

# Bytes that bring texts to an end; without a preference for them random JSON nests for ever.
_CLOSING = b'"}]'
TOKENS_MAX = 4000


class TinyVocab:
    """A Vocab, with the model that must outlive it."""

    def __init__(self, folder: Path) -> None:
        start_backend()
        path = write_tiny_gguf(folder / "model.gguf")
        params = C.llama_model_default_params()
        params.vocab_only = True
        self._model: Any = C.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = Vocab(C.llama_model_get_vocab(self._model))


def write_answer(grammar: Grammar, vocab: Vocab, seed: int, *, haste: float = 4.0) -> bytes:
    """A random text under the grammar's mask, up to its end."""
    rng = np.random.default_rng(seed)
    mask = grammar.start()
    text = b""
    bias = np.zeros(vocab.size, np.float32)
    bias[list(_CLOSING)] = haste
    bias[vocab.turn_ends] = haste
    for _ in range(TOKENS_MAX):
        if mask.complete:
            return text
        logits = rng.standard_normal(vocab.size).astype(np.float32) + bias
        may_end = mask.may_end
        mask.apply(logits)
        assert may_end == bool(np.isfinite(logits[vocab.turn_ends]).all())
        assert may_end == bool(np.isfinite(logits[vocab.turn_ends]).any())
        token = int(logits.argmax())
        assert np.isfinite(logits[token])
        if vocab.ends_turn(token):
            return text
        mask.accept(token)
        text += vocab.piece(token)
    raise AssertionError(f"no end after {TOKENS_MAX} tokens: {text[:200]!r}")
