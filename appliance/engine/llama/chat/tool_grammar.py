"""A grammar in llguidance's Lark for answers that may or must call tools.

Each call names one of the tools, and its arguments validate against that tool's schema: nothing else can be written.

Free text holds neither the opening marker nor, at its beginning, a call or a reasoning span: so the parser, which looks
for just these, and the grammar never disagree about what a piece of the answer is.
"""

import json
from collections.abc import Mapping, Sequence

from appliance import limits
from appliance.engine.llama.chat.markers import WHITE, Marker, literal, pattern
from appliance.engine.llama.chat.reasoning import Span
from appliance.engine.llama.chat.syntax import ARGUMENTS, CALL_ID, NAME, ToolSyntax
from appliance.engine.llama.chat.tools import CheckedTool, ToolPlan

# One way to write JSON, the one of json.dumps: what models were trained on, and no white space without end.
_JSON_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_ANY = "(?s:.*)"
_WHITE = "[" + WHITE.encode("unicode_escape").decode() + "]"


def tool_grammar(
    plan: ToolPlan, syntax: ToolSyntax, markers: Mapping[str, Marker], span: Span | None, *, inside: bool = False
) -> str:
    """The grammar's source. ``markers`` has those of the syntax.

    With a ``span`` the answer may begin with reasoning; it does when it starts ``inside`` of it.
    """
    writer = _Writer(syntax, markers, span)
    rules = [
        "%llguidance {}",
        f"start: {writer.start(inside=inside)}",
        *writer.answer(required=plan.required, several=plan.several and syntax.parallel),
        *writer.calls(plan.callable),
    ]
    return "\n".join(rules) + "\n"


class _Writer:
    """Rules of one grammar."""

    def __init__(self, syntax: ToolSyntax, markers: Mapping[str, Marker], span: Span | None) -> None:
        self._syntax = syntax
        self._markers = markers
        self._span = span

    def start(self, *, inside: bool) -> str:
        """Reasoning before the answer; what follows are the rules it needs."""
        if self._span is None:
            return "answer"
        closing = self._span.closing
        if closing.token is None:
            rules = f"reasoning[lazy]: /{_ANY}{pattern(closing.text)}/"
        else:
            rules = f"reasoning: REASONING {closing.lark}\nREASONING: /{_ANY}/{_without(closing.text)}"
        rules += f"\nWHITE: /{_WHITE}{{0,4}}/"
        if inside:
            return f"reasoning WHITE answer\n{rules}"
        return f"answer | {self._span.opening.lark} reasoning WHITE answer\n{rules}"

    def answer(self, *, required: bool, several: bool) -> list[str]:
        """Text, or calls with what may stand before them."""
        syntax = self._syntax
        between = self._parts(syntax.between)
        more = f" ({between} call){{0,{limits.tool_calls_per_message_max - 1}}}" if several else ""
        rules = [f"calls: {self._parts((syntax.prefix,))} call{more} {self._parts((syntax.suffix,))}"]
        opening = self._markers[syntax.opening] if syntax.opening else None
        at_once = [opening.lark] if opening else []
        if syntax.bare:
            at_once.append("")
        if required:
            return [f"answer: {' | '.join(f'{way} calls' for way in at_once)}", *rules]
        ways = ["TEXT", *(["calls"] if syntax.bare else [])]
        begins = self._not_at_the_beginning()
        if opening and opening.token is not None:
            ways.append(f"TEXT {opening.lark} calls")
        elif opening:
            ways.append("opened calls")
            rules += ["opened[lazy]: OPENED", f"OPENED: /{_ANY}{pattern(opening.text)}/{begins}"]
        text = f"TEXT: /{_ANY}/{_without(opening.text) if opening else ''}{begins}"
        return [f"answer: {' | '.join(ways)}", *rules, text]

    def _not_at_the_beginning(self) -> str:
        result = ""
        if self._span is not None:
            result += f" & ~/{_WHITE}*{pattern(self._span.opening.text)}{_ANY}/"
            # Or the white space after reasoning would be the beginning of text, and no call could follow it.
            result += f" & ~/{_WHITE}{_ANY}/" if self._syntax.bare else ""
        if self._syntax.bare:
            result += f' & ~/{_WHITE}*\\{{{_WHITE}*"name"{_ANY}/'
        return result

    def calls(self, tools: Sequence[CheckedTool]) -> list[str]:
        """A rule for each tool."""
        rules = [f"call: {' | '.join(f'call_{number}' for number in range(len(tools)))}"]
        for number, tool in enumerate(tools):
            parts = [tool.name if part == NAME else part for part in self._syntax.call]
            rules += [f"call_{number}: {self._parts(parts, f'arguments_{number}')}"]
            # The key is llguidance's own; one in a caller's schema must not count.
            schema = {**tool.arguments, "x-guidance": _JSON_SPACING}
            rules += [f"arguments_{number}: %json {json.dumps(schema)}"]
        return rules

    def _parts(self, parts: Sequence[str], arguments: str = "") -> str:
        """``parts`` in Lark. Literals that follow each other become one: that is fewer lexemes, and less ambiguity."""
        others = {ARGUMENTS: arguments, CALL_ID: "/[A-Za-z0-9]{9}/"}
        others |= {text: marker.lark for text, marker in self._markers.items() if marker.token is not None}
        result, text = [], ""
        for part in parts:
            if part not in others:
                text += part
                continue
            result += [literal(text), others[part]] if text else [others[part]]
            text = ""
        return " ".join([*result, literal(text)] if text else result)


def _without(text: str) -> str:
    return f" & ~/{_ANY}{pattern(text)}{_ANY}/"
