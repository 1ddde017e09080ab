"""Prompts of a language-model benchmark: one for all, or one of its own for each call."""

from dataclasses import dataclass

DEFAULT_PROMPT = "Explain in plain words how a steam engine turns heat into motion."
# Plain words that every tokenizer knows as one token or two, so that a wanted length comes out about right.
WORDS = "the line runs and each part that comes by is weighed then read and put on one of two belts as it should be "


@dataclass(frozen=True)
class Prompts:
    """``own``: no two calls share a prefix, so that no server can answer from what it kept of an earlier prompt."""

    text: str = DEFAULT_PROMPT
    own: bool = False

    def of(self, client: int, call: int) -> str:
        """The prompt of that client's call."""
        return f"Case {client}-{call}. {self.text}" if self.own else self.text


def of_length(tokens: int) -> str:
    """A text of about that many tokens (one word each)."""
    words = WORDS.split()
    return " ".join(words[place % len(words)] for place in range(tokens))
