"""Whether a conversation and its tools are well formed: roles, what belongs to which, names, counts and bytes. Pure."""

import re

from appliance import limits
from appliance.calls import ChatMessage, GenerateCall, Tool
from appliance.errors import InvalidArgument
from appliance.serve.validate import quote

ROLES = ("system", "user", "assistant", "tool")
_TOOL_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{limits.tool_name_chars_max}}}")


def check(call: GenerateCall) -> None:
    """Raises InvalidArgument that says which message or tool is wrong, and how."""
    messages = call.messages or ()
    if not 0 < len(messages) <= limits.chat_messages_max:
        raise InvalidArgument(
            f"{len(messages)} messages came, from 1 to {limits.chat_messages_max} are allowed", reason="MESSAGES"
        )
    for index, message in enumerate(messages):
        _check_message(index, message)
    _check_tools(call.tools)
    _check_choice(call)
    # All of it is rendered into one prompt, and travels in one frame.
    size = sum(_message_bytes(message) for message in messages) + sum(_tool_bytes(tool) for tool in call.tools)
    if size > limits.prompt_bytes_max:
        raise InvalidArgument(
            f"the conversation has {size} bytes{', its tools included' if call.tools else ''}, "
            f"at most {limits.prompt_bytes_max} are allowed",
            reason="PROMPT_SIZE",
        )


def _check_message(index: int, message: ChatMessage) -> None:
    role = message.role
    if role not in ROLES:
        raise InvalidArgument(
            f"message {index} has role {quote(role)}, expected one of {', '.join(ROLES)}", reason="ROLE"
        )
    owned = [("tool_calls", "assistant"), ("reasoning", "assistant"), ("tool_call_id", "tool"), ("name", "tool")]
    for field, owner in owned:
        if getattr(message, field) and role != owner:
            raise InvalidArgument(
                f"message {index} has {field}, which only messages of role '{owner}' have; its role is '{role}'",
                reason="ROLE",
            )
    if len(message.tool_call_id) > limits.tool_call_id_chars_max:
        raise InvalidArgument(
            f"message {index} has a tool_call_id of {len(message.tool_call_id)} characters, "
            f"at most {limits.tool_call_id_chars_max} are allowed",
            reason="TOOL_CALL",
        )
    if message.name:
        _check_name(f"message {index}", message.name)
    _check_tool_calls(index, message)


def _check_tool_calls(index: int, message: ChatMessage) -> None:
    if len(message.tool_calls) > limits.tool_calls_per_message_max:
        raise InvalidArgument(
            f"message {index} has {len(message.tool_calls)} tool calls, "
            f"at most {limits.tool_calls_per_message_max} are allowed",
            reason="TOOL_CALL",
        )
    for call in message.tool_calls:
        _check_name(f"a tool call of message {index}", call.name)
        size = len(call.arguments.encode())
        if size > limits.tool_arguments_bytes_max:
            raise InvalidArgument(
                f"the arguments of a tool call of message {index} have {size} bytes, "
                f"at most {limits.tool_arguments_bytes_max} are allowed",
                reason="TOOL_ARGUMENTS_SIZE",
            )
        if len(call.id) > limits.tool_call_id_chars_max:
            raise InvalidArgument(
                f"a tool call of message {index} has an id of {len(call.id)} characters, "
                f"at most {limits.tool_call_id_chars_max} are allowed",
                reason="TOOL_CALL",
            )


def _check_tools(tools: tuple[Tool, ...]) -> None:
    if len(tools) > limits.tools_max:
        raise InvalidArgument(f"{len(tools)} tools came, at most {limits.tools_max} are allowed", reason="TOOLS")
    names: set[str] = set()
    for index, tool in enumerate(tools):
        _check_name(f"tool {index}", tool.name)
        if tool.name in names:
            raise InvalidArgument(f"there are two tools with the name '{tool.name}'", reason="TOOL_NAME")
        names.add(tool.name)
        for what, text, most in (
            ("a description", tool.description, limits.tool_description_bytes_max),
            ("a schema of parameters", tool.parameters, limits.constraint_bytes_max),
        ):
            size = len(text.encode())
            if size > most:
                raise InvalidArgument(
                    f"tool '{tool.name}' has {what} of {size} bytes, at most {most} are allowed", reason="TOOL_SIZE"
                )


def _check_name(where: str, name: str) -> None:
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidArgument(
            f"{where} has the name {quote(name)}: a tool's name has from 1 to {limits.tool_name_chars_max} letters, "
            "digits, '_', '-' and '.'",
            reason="TOOL_NAME",
        )


def _check_choice(call: GenerateCall) -> None:
    names = [tool.name for tool in call.tools]
    if call.tool_choice in ("required", "named") and not names:
        raise InvalidArgument("tool_choice wants a tool to be called, but no tools came", reason="TOOL_CHOICE")
    if call.tool_choice == "named":
        if call.tool_name not in names:
            raise InvalidArgument(
                f"tool_choice names {quote(call.tool_name)}, which is not one of the {len(names)} tools that came",
                reason="TOOL_CHOICE",
            )
    elif call.tool_name:
        raise InvalidArgument(
            f"tool_choice names {quote(call.tool_name)}, but its mode is not NAMED", reason="TOOL_CHOICE"
        )


def _message_bytes(message: ChatMessage) -> int:
    calls = sum(len(call.name) + len(call.arguments.encode()) for call in message.tool_calls)
    return len(message.content.encode()) + len(message.reasoning.encode()) + calls


def _tool_bytes(tool: Tool) -> int:
    return len(tool.name) + len(tool.description.encode()) + len(tool.parameters.encode())
