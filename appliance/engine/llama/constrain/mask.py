"""What one sequence may say next: the state of a grammar, as a mask over the logits.

The mask of a state is computed once, whoever asks first (``complete`` after a token, ``apply`` before the next one).
Nothing here goes on without its grammar: a matcher that gave up is an error that ends the answer.
"""

import logging

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher

from appliance import events
from appliance.errors import ApplianceError, InternalError, InvalidArgument, ResourceExhausted

_log = logging.getLogger("appliance.engine.llama.constrain.mask")
_FORBIDDEN = np.float32(-np.inf)
_TOO_COMPLEX = frozenset({"ParserTooComplex", "LexerTooComplex"})


class Shape:
    """What all masks of one vocabulary have in common: its size and the tokens that end a turn."""

    def __init__(self, size: int, ends: list[int]) -> None:
        self.size = size
        self.words = (size + 31) // 32
        # The same bits as a mask that allows the end alone.
        self.ends = np.zeros(self.words, np.uint32)
        for token in ends:
            self.ends[token // 32] |= np.uint32(1 << token % 32)
        self.not_ends = ~self.ends
        # For each byte of a mask what its eight logits may be at the most. Branches on single bits cost 0.2 ms where
        # a mask is a mixture, this 0.02 ms always.
        bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
        self.ceilings = np.where(bits == 1, np.float32(np.inf), _FORBIDDEN).astype(np.float32)
        self.scratch = np.empty((self.words * 4, 8), np.float32)


class TokenMask:
    """One sequence's state. Owned by one thread; 6 kB for its bits and some 8 kB in llguidance (49,152 tokens)."""

    def __init__(self, matcher: LLMatcher, shape: Shape) -> None:
        self._matcher = matcher
        self._shape = shape
        self._bits = np.zeros(shape.words, np.uint32)
        self._bytes = self._bits.view(np.uint8)
        self._address = self._bits.ctypes.data
        self._fresh = False

    def apply(self, logits: npt.NDArray[np.float32]) -> None:
        """Sets the logits, float32 [vocabulary or more], of what may not come next to -inf, in place.

        Raises an ApplianceError (CONSTRAINT_FAILED) when the grammar gave up.
        """
        self._compute()
        size = self._shape.size
        # mode: "raise" would copy the result once more.
        np.take(self._shape.ceilings, self._bytes, axis=0, out=self._shape.scratch, mode="clip")
        np.minimum(logits[:size], self._shape.scratch.reshape(-1)[:size], out=logits[:size])
        if len(logits) > size:
            logits[size:] = _FORBIDDEN

    def accept(self, token: int) -> None:
        """Goes on with ``token``. One that the mask forbids, or that llguidance fails on, is CONSTRAINT_FAILED."""
        if self._fresh and not self._bits[token // 32] >> np.uint32(token % 32) & np.uint32(1):
            raise InternalError("a token was chosen that the constraint forbids", reason="CONSTRAINT_FAILED")
        if not self._matcher.consume_token(token):
            raise self._failure()
        self._fresh = False

    def forced(self, most: int) -> list[int]:
        """The tokens that must come next, at most ``most``, as the model's own tokenizer would write that text.

        Shorter than the forced text where its last token depends on what follows. Empty when a choice is left.
        """
        return self._matcher.compute_ff_tokens()[:most] if most > 0 else []

    @property
    def may_end(self) -> bool:
        """Whether the text so far is a whole answer."""
        return self._matcher.is_accepting()

    @property
    def complete(self) -> bool:
        """Whether nothing but the end may follow. Raises as ``apply`` does."""
        if self._matcher.is_stopped() and not self._matcher.is_error():
            return True
        if not self._matcher.is_accepting():
            return False
        self._compute()
        return not np.bitwise_and(self._bits, self._shape.not_ends).any()

    def _compute(self) -> None:
        if self._fresh:
            return
        self._matcher.unsafe_compute_mask_ptr(self._address, self._bits.nbytes)
        if self._matcher.is_error() or not self._bits.any():
            raise self._failure()
        self._fresh = True

    def _failure(self) -> ApplianceError:
        reason = self._matcher.stop_reason()
        # The text of the error may hold the client's schema: it is not logged.
        _log.warning(
            "a grammar failed while its answer was written (%s)", reason, extra=events.MODEL_GRAMMAR_FAILED.of()
        )
        exhausted = reason in _TOO_COMPLEX or "too many" in self._matcher.get_error().lower()
        return _error(too_complex=exhausted)


def _error(*, too_complex: bool) -> ApplianceError:
    """The error that ends an answer whose grammar cannot be followed any further."""
    if too_complex:
        return ResourceExhausted(
            "the constraint became too complex while the answer was written: simplify it", reason="CONSTRAINT_FAILED"
        )
    return InvalidArgument(
        "the constraint leads to a dead end: it allows nothing more after what this answer says, and no end either",
        reason="CONSTRAINT_FAILED",
    )
