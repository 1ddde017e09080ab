"""Messages and tools in the shape that templates written for Hugging Face's renderer read.

Everything in them was written by somebody else, so each string passes through ``mark`` (which keeps control tokens in
it from being read as such): contents and arguments, keys of nested objects, names, descriptions, results.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from appliance import limits
from appliance.calls import ChatMessage, ToolCall
from appliance.engine.llama.chat.json_text import parse_object
from appliance.engine.llama.chat.tools import TOOL_NAME, CheckedTool
from appliance.engine.llama.vocab import utf8
from appliance.errors import InvalidArgument

ROLES = ("system", "user", "assistant", "tool")
_SHORT_ID = re.compile("[A-Za-z0-9]{9}")
# About what a template writes around a call; so many empty ones are bounded too.
_CALL_BYTES = 64

Turn = dict[str, Any]
Mark = Callable[[str], str]


def check_messages(messages: Sequence[ChatMessage]) -> None:
    """Raises InvalidArgument for what no template needs to see."""
    if not messages:
        raise InvalidArgument("messages is empty: at least one is needed", reason="MESSAGES_EMPTY")
    if len(messages) > limits.chat_messages_max:
        raise InvalidArgument(f"{len(messages):,} messages, at most {limits.chat_messages_max:,} are allowed")
    total = 0
    for number, message in enumerate(messages):
        if message.role not in ROLES:
            raise InvalidArgument(
                f'message {number} has the role "{message.role[:32]}", known are {", ".join(ROLES)}',
                reason="ROLE_UNKNOWN",
            )
        what = f"message {number}"
        total += len(utf8(message.content, what)) + len(utf8(message.reasoning, what)) + len(utf8(message.name, what))
        total += sum(_CALL_BYTES + len(call.id) + len(utf8(call.arguments, what)) for call in message.tool_calls)
        _check_calls(number, message)
    if total > limits.prompt_bytes_max:
        raise InvalidArgument(f"messages of {total:,} bytes, at most {limits.prompt_bytes_max:,} are allowed")


def _check_calls(number: int, message: ChatMessage) -> None:
    if message.tool_calls and message.role != "assistant":
        raise InvalidArgument(f"message {number} has tool calls, but only the assistant's messages may")
    if len(message.tool_calls) > limits.tool_calls_per_message_max:
        raise InvalidArgument(
            f"message {number} has {len(message.tool_calls):,} tool calls, at most "
            f"{limits.tool_calls_per_message_max} are allowed"
        )
    ids = [message.tool_call_id, *(call.id for call in message.tool_calls)]
    if any(len(utf8(one, f"an id in message {number}")) > limits.tool_call_id_chars_max for one in ids):
        raise InvalidArgument(
            f"message {number} has a tool call id of more than {limits.tool_call_id_chars_max} characters"
        )
    if any(not TOOL_NAME.fullmatch(call.name) for call in message.tool_calls):
        raise InvalidArgument(
            f"message {number} calls a tool whose name is not 1 to {limits.tool_name_chars_max} of the characters "
            "A-Z a-z 0-9 _ . -",
            reason="TOOL_INVALID",
        )


def template_turns(messages: Sequence[ChatMessage], mark: Mark, *, short_ids: bool) -> list[Turn]:
    """The variable ``messages`` of a template. Keys that say nothing are left out, because templates ask for them.

    ``short_ids``: ids of calls as Mistral's templates insist on, nine letters or digits. Raises InvalidArgument for
    arguments that are not a JSON object, or too large.
    """
    identify = _short_id if short_ids else str
    turns = []
    for number, message in enumerate(messages):
        turn: Turn = {"role": message.role, "content": mark(message.content)}
        if message.tool_calls:
            turn["tool_calls"] = [
                {
                    "id": mark(identify(call.id)),
                    "type": "function",
                    "function": {"name": mark(call.name), "arguments": mark_all(arguments_of(call, number), mark)},
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id or (short_ids and message.role == "tool"):
            turn["tool_call_id"] = mark(identify(message.tool_call_id))
        if message.name:
            turn["name"] = mark(message.name)
        if message.reasoning:
            turn["reasoning_content"] = mark(message.reasoning)
        turns.append(turn)
    return turns


def arguments_of(call: ToolCall, number: int) -> dict[str, Any]:
    """The arguments of a call in message ``number`` as an object; "" is none."""
    what = f'the arguments of tool call "{call.name}" in message {number}'
    if not call.arguments.strip():
        return {}
    return parse_object(call.arguments, what, limits.tool_arguments_bytes_max, "TOOL_ARGUMENTS_INVALID")


def template_tools(tools: Sequence[CheckedTool], mark: Mark) -> list[dict[str, Any]]:
    """The variable ``tools`` of a template."""
    return [
        {
            "type": "function",
            "function": {
                "name": mark(tool.name),
                "description": mark(tool.description),
                "parameters": mark_all(tool.schema or {"type": "object", "properties": {}}, mark),
            },
        }
        for tool in tools
    ]


def mark_all(value: Any, mark: Mark) -> Any:
    """``value`` (JSON, its depth bounded) with every string and key marked."""
    if isinstance(value, str):
        return mark(value)
    if isinstance(value, list):
        return [mark_all(item, mark) for item in value]
    if isinstance(value, dict):
        return {mark(key): mark_all(item, mark) for key, item in value.items()}
    return value


def _short_id(text: str) -> str:
    # The same for the same id, so that a conversation's prompt stays what it was and its prefix is found in the cache.
    return text if _SHORT_ID.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:9]
