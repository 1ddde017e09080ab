"""An answer on its way to the screen: its text on standard output, the model's thoughts dim and beside it.

Thoughts go to standard error: a script that reads the answer never gets them, and a person sees both.
"""

import json
import os
import sys
from typing import Any

from appliance.cli import output
from appliance.pb.appliance.v1 import generation_pb2 as pb

_DIM, _NORMAL = "\x1b[2m", "\x1b[22m"


class Display:
    """Shows one answer after another. ``silent``: nothing, for those who print a whole answer as JSON later."""

    def __init__(self, silent: bool = False) -> None:
        self._silent = silent
        dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._dims = sys.stderr.isatty() and not dumb
        self._thinking = False
        self._line_begins = True

    def show(self, response: pb.GenerateResponse) -> None:
        """What this response adds."""
        if self._silent:
            return
        if response.reasoning:
            self._think(response.reasoning)
        if response.text:
            self._answer_begins()
            self.write(response.text)
        for call in response.tool_calls:
            self._answer_begins()
            if not self._line_begins:
                self.write("\n")
            self.write(json.dumps(tool_call(call), ensure_ascii=False) + "\n")

    def end(self) -> None:
        """The answer is complete, or was stopped: what comes next begins a line of its own."""
        if self._silent:
            return
        self._answer_begins()
        if not self._line_begins:
            self.write("\n")

    def write(self, text: str) -> None:
        """Text of the answer, without control codes."""
        sys.stdout.write(output.printable(text))
        sys.stdout.flush()
        self._line_begins = text.endswith("\n")

    def _think(self, text: str) -> None:
        text = output.printable(text)
        self._thinking = True
        sys.stderr.write(f"{_DIM}{text}{_NORMAL}" if self._dims else text)
        sys.stderr.flush()

    def _answer_begins(self) -> None:
        if self._thinking:
            self._thinking = False
            sys.stderr.write("\n\n")
            sys.stderr.flush()


def tool_call(call: pb.ToolCall) -> dict[str, Any]:
    """A call as a document, its arguments as JSON and not as a text of it."""
    try:
        arguments = json.loads(call.arguments_json)
    except (ValueError, RecursionError):
        arguments = call.arguments_json
    return {"id": call.id, "name": call.name, "arguments": arguments}
