"""Tools for templates that know none: told in a system message, calls and results written as text of ordinary turns.

The answer's form doesn't depend on how well the model follows this: the grammar holds it to it.
"""

import json
from collections.abc import Sequence
from typing import Any

from appliance.engine.llama.chat.conversation import Turn
from appliance.engine.llama.chat.tools import ToolPlan

_INTRODUCTION = "You can call functions. Each line describes one:"
_HOW = (
    "To call a function, write its name and its arguments as JSON between these tags:\n"
    '<tool_call>\n{"name": "the function\'s name", "arguments": {"the argument\'s name": "its value"}}\n</tool_call>'
)
_WHEN = {
    "auto": "Call a function only when you need it for your answer; otherwise answer in plain text.",
    "required": "Answer with a function call now.",
    "named": "Answer with a call of the function {name} now.",
}
_SEVERAL = "To call more than one, write one such block after the other."


def explain_tools(plan: ToolPlan, tools: Sequence[dict[str, Any]]) -> str:
    """What the system message says of ``tools``, which are in the shape of templates."""
    lines = [_INTRODUCTION, *(json.dumps(tool["function"], ensure_ascii=False) for tool in tools), "", _HOW]
    lines.append(_WHEN[plan.choice].format(name=plan.callable[0].name))
    if plan.several:
        lines.append(_SEVERAL)
    return "\n".join(lines)


def with_instructions(turns: Sequence[Turn], text: str, *, knows_system: bool) -> list[Turn]:
    """``turns`` with ``text`` in the system message, or in the first message where the template knows no such role."""
    if not text:
        return list(turns)
    first = turns[0]
    if first["role"] == "system" or (not knows_system and first["role"] == "user"):
        content = f"{first['content']}\n\n{text}" if first["role"] == "system" else f"{text}\n\n{first['content']}"
        return [{**first, "content": content}, *turns[1:]]
    return [{"role": "system" if knows_system else "user", "content": text}, *turns]


def without_tool_turns(turns: Sequence[Turn]) -> list[Turn]:
    """``turns`` with calls as text of the assistant's, and results as the user's, one turn for all that are in a row.

    A user's message after them joins the same turn, because many templates insist on turns that alternate.
    """
    result: list[Turn] = []
    follows_result = False
    for turn in turns:
        is_result = turn["role"] == "tool"
        written = _result_as_text(turn) if is_result else _calls_as_text(turn)
        if follows_result and written["role"] == "user":
            written = {**written, "content": f"{result.pop()['content']}\n{written['content']}"}
        result.append(written)
        follows_result = is_result
    return result


def _result_as_text(turn: Turn) -> Turn:
    name = f"{turn['name']}: " if "name" in turn else ""
    return {"role": "user", "content": f"<tool_response>\n{name}{turn['content']}\n</tool_response>"}


def _calls_as_text(turn: Turn) -> Turn:
    if "tool_calls" not in turn:
        return turn
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn["tool_calls"]]
    text = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
    rest = {key: value for key, value in turn.items() if key != "tool_calls"}
    return {**rest, "content": f"{turn['content']}\n{text}" if turn["content"] else text}
