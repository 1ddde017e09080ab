"""What the text of an answer means, piece by piece: text for the client, thinking aloud, or calls of tools.

A parser gets whole characters, after stop strings were handled, in any cut: the result is the same. What could still
turn out to be the beginning of a marker is held back, no more than that.
"""

from typing import Protocol

import msgspec

from appliance.calls import ToolCall


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """What became certain. Each of ``tool_calls`` is complete; most pieces have ``text`` alone."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to send."""
        return bool(self.text or self.reasoning or self.tool_calls)


NOTHING = Parsed()


class AnswerParser(Protocol):
    """One answer's parser."""

    def push(self, text: str) -> Parsed:
        """What is certain now that ``text`` has come."""
        ...

    def finish(self) -> Parsed:
        """What was held back. A call that is not complete (max_tokens cut it) is dropped, never given in halves."""
        ...


class PlainParser:
    """For answers that are text and nothing else."""

    def push(self, text: str) -> Parsed:
        return Parsed(text)

    def finish(self) -> Parsed:
        return NOTHING
