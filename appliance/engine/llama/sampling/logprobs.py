"""Log-probabilities of the tokens taken, and of the best that could have been."""

import math

import numpy as np
import numpy.typing as npt

from appliance.answers import TokenChoice, TokenLogprob
from appliance.engine.llama.vocab import Vocab


def token_choice(logits: npt.NDArray[np.float32], chosen: int, top: int, vocab: Vocab) -> TokenChoice:
    """The chosen token's and the ``top`` best tokens' log-probabilities, before any filter (penalties included)."""
    largest = float(logits.max())
    total = float(np.exp(logits - largest, dtype=np.float32).sum(dtype=np.float64))
    shift = largest + math.log(total)
    count = min(top, len(logits))
    best = np.argpartition(logits, -count)[-count:]
    best = best[np.argsort(-logits[best], kind="stable")]

    def one(token: int) -> TokenLogprob:
        return TokenLogprob(token, vocab.piece(token), float(logits[token]) - shift)

    return TokenChoice(one(chosen), tuple(one(int(token)) for token in best))
