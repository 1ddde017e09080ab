"""Reads an answer that may think aloud and call tools: reasoning, then text, then calls to the end.

White space around the spans belongs to none of them: it is held back until it is clear what follows.
"""

import re
import secrets

import msgspec

from appliance import limits
from appliance.calls import ToolCall
from appliance.engine.llama.chat.answer import NOTHING, Parsed
from appliance.engine.llama.chat.json_text import ObjectEnd
from appliance.engine.llama.chat.markers import WHITE
from appliance.engine.llama.chat.syntax import ToolSyntax

# How a call begins that needs no marker, and what could still become that.
_BARE = re.compile(r'\{[ \t\r\n]*"name"')
_BARE_YET = re.compile(r'\{[ \t\r\n]*(?:"(?:n(?:a(?:m(?:e)?)?)?)?)?')
_NAME_BEFORE = re.compile(r"([A-Za-z0-9_.-]+)(?:\[CALL_ID\][A-Za-z0-9]*)?\[ARGS\]\s*$")


class _Named(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class SpanParser:
    """An AnswerParser. ``span`` are the reasoning markers; ``inside``: the answer starts within; ``syntax``: of calls.

    Without a ``syntax`` there are no calls to look for. States: "start" (nothing but white space yet), "reasoning",
    "text", "calls".
    """

    def __init__(self, span: tuple[str, str] | None, *, inside: bool = False, syntax: ToolSyntax | None = None) -> None:
        self._opening, self._closing = span or ("", "")
        self._syntax = syntax
        self._state = "reasoning" if inside else "start"
        self._thought = False
        self._held = ""
        self._reasoned = False
        self._calls = _CallReader(syntax) if syntax else None

    def push(self, text: str) -> Parsed:
        return self._read(text, last=False)

    def finish(self) -> Parsed:
        return self._read("", last=True)

    def _read(self, text: str, *, last: bool) -> Parsed:
        said, reasoning = "", ""
        calls: tuple[ToolCall, ...] = ()
        self._held += text
        before = None
        while before != self._state:
            before = self._state
            if before == "start":
                self._start(last)
            elif before == "reasoning":
                reasoning += self._reason(last)
            elif before == "text":
                said += self._say(last)
            elif self._calls is not None:
                calls, self._held = self._calls.feed(self._held), ""
        return Parsed(said, reasoning, calls) if said or reasoning or calls else NOTHING

    def _start(self, last: bool) -> None:
        """Decides what the answer, or what follows its reasoning, begins with."""
        begun = self._held.lstrip(WHITE)
        opening = "" if self._thought else self._opening
        if opening and begun.startswith(opening):
            self._state, self._held = "reasoning", begun[len(opening) :]
            return
        bare = self._syntax is not None and self._syntax.bare
        if bare and _BARE.match(begun):
            self._state, self._held = "calls", begun
            return
        undecided = not begun or bool(opening and opening.startswith(begun))
        if not last and (undecided or (bare and _BARE_YET.fullmatch(begun))):
            return
        self._state = "text"
        if self._thought:
            self._held = begun

    def _reason(self, last: bool) -> str:
        if not self._reasoned:
            self._held = self._held.lstrip(WHITE)
        place = self._held.find(self._closing)
        if place >= 0:
            result, self._held = self._held[:place].rstrip(WHITE), self._held[place + len(self._closing) :]
            self._state, self._thought = "start", True
        else:
            result = self._certain(self._closing, last)
        self._reasoned = self._reasoned or bool(result)
        return result

    def _say(self, last: bool) -> str:
        opening = self._syntax.opening if self._syntax else ""
        if not opening:
            result, self._held = self._held, ""
            return result
        place = self._held.find(opening)
        if place < 0:
            return self._certain(opening, last)
        result, self._held = self._held[:place].rstrip(WHITE), self._held[place:]
        self._state = "calls"
        return result

    def _certain(self, marker: str, last: bool) -> str:
        """Gives out what is held, except for a possible beginning of the marker and the white space before it."""
        keep = 0
        if not last:
            keep = _overlap(self._held, marker)
            body = self._held[: len(self._held) - keep]
            keep += len(body) - len(body.rstrip(WHITE))
        cut = len(self._held) - keep
        result, self._held = self._held[:cut], self._held[cut:]
        return result


class _CallReader:
    """The calls of an answer, one after the other: what stands before a "{", then the object that begins there."""

    def __init__(self, syntax: ToolSyntax) -> None:
        self._key = syntax.arguments_key
        self._before = ""
        self._object: list[str] = []
        self._size = 0
        self._end = ObjectEnd()

    def feed(self, text: str) -> tuple[ToolCall, ...]:
        """The calls that are complete now."""
        calls = []
        while text:
            if not self._object:
                place = text.find("{")
                if place < 0:
                    self._before += text
                    break
                self._before += text[:place]
                text = text[place:]
            length = self._end.feed(text)
            part = text if length < 0 else text[:length]
            self._size += len(part)
            # A call larger than a conversation may repeat is of no use; its text is not kept.
            self._object.append("" if self._oversized else part)
            if length < 0:
                break
            text = text[length:]
            call = None if self._oversized else self._complete("".join(self._object))
            calls += [call] if call else []
            self._before, self._object, self._size, self._end = "", [], 0, ObjectEnd()
        return tuple(calls)

    @property
    def _oversized(self) -> bool:
        return self._size > limits.tool_arguments_bytes_max

    def _complete(self, text: str) -> ToolCall | None:
        if self._key:
            try:
                named = msgspec.json.decode(text, type=_Named)
            except (msgspec.DecodeError, RecursionError):
                return None
            name = named.name
            text = bytes(named.arguments if self._key == "arguments" else named.parameters).decode()
        else:
            match = _NAME_BEFORE.search(self._before)
            name = match.group(1) if match else ""
        if not name or not text.startswith("{"):
            return None
        return ToolCall(f"call_{secrets.token_hex(12)}", name, text)


def _overlap(text: str, marker: str) -> int:
    """How long a proper beginning of ``marker`` is that ``text`` ends with."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if text.endswith(marker[:length]):
            return length
    return 0
