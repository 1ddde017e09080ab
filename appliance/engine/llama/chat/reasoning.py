"""Where a model thinks aloud before it answers: the span's markers, and whether the prompt opens it already.

A caller's own constraint is for the whole answer: the span is then closed in the prompt, and the model doesn't think.
"""

import msgspec

from appliance.engine.llama.chat.markers import Marker, find_marker
from appliance.engine.llama.vocab import Vocab

# Qwen 3, QwQ, DeepSeek R1, GLM and most others; Magistral; Seed.
_PAIRS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))


class Span(msgspec.Struct, frozen=True):
    """The markers around a model's reasoning."""

    opening: Marker
    closing: Marker

    def opened_by(self, prompt: str) -> bool:
        """Whether the generation prompt ends with the beginning of a span, so that the answer starts inside of it."""
        return prompt.rstrip().endswith(self.opening.text)

    def left_open_in(self, text: str) -> bool:
        """Whether ``text`` (the beginning of an answer) opens a span that it doesn't close."""
        return text.rfind(self.opening.text) > text.rfind(self.closing.text)

    def closed(self, prompt: str) -> str:
        """``prompt``, its open span closed as models do that don't think this time."""
        return f"{prompt.rstrip()}\n\n{self.closing.text}\n\n"


def find_span(source: str, vocab: Vocab) -> Span | None:
    """The reasoning span that a chat template knows, if it does."""
    for opening, closing in _PAIRS:
        if opening in source or closing in source:
            return Span(find_marker(vocab, opening), find_marker(vocab, closing))
    return None
