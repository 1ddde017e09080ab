"""The tools of a call, checked: names, schemas, and which of them the answer may call."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from appliance import limits
from appliance.calls import Constraint, GenerateCall, Tool
from appliance.engine.llama.chat.json_text import parse_object
from appliance.engine.llama.vocab import utf8
from appliance.errors import InvalidArgument

TOOL_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{limits.tool_name_chars_max}}}")
# With one of these a property that is not listed may be asked for all the same, so the list must stay open.
_OPEN_KEYS = frozenset(
    [
        "additionalProperties",
        "unevaluatedProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "if",
        "dependentSchemas",
        "$ref",
    ]
)
# Keywords that only remark, and take room in a grammar; those whose values are schemas by name; and documents.
_REMARKS = frozenset(["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"])
_NAMES = frozenset(["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"])
_DOCUMENTS = frozenset(("const", "enum"))


class CheckedTool(msgspec.Struct, frozen=True):
    """``schema`` is what the model is told; ``arguments`` is what it is held to."""

    name: str
    description: str
    schema: dict[str, Any]
    arguments: dict[str, Any]


class ToolPlan(msgspec.Struct, frozen=True):
    """``offered`` are told to the model, ``callable`` may be called. ``required``: the answer is a call.

    ``several``: more than one call may come.
    """

    offered: tuple[CheckedTool, ...]
    callable: tuple[CheckedTool, ...]
    choice: Literal["auto", "required", "named"]
    several: bool

    @property
    def required(self) -> bool:
        """Whether the answer must be a call."""
        return self.choice != "auto"


def plan_tools(call: GenerateCall) -> ToolPlan | None:
    """What a call says about tools; None when there is nothing to call.

    With tool_choice none the tools are not offered: the model isn't told of them, and the answer is text.
    Raises InvalidArgument for tools, schemas or choices that cannot be.
    """
    tools = check_tools(call.tools)
    choice = call.tool_choice or "auto"
    if not tools:
        if choice in ("required", "named"):
            raise InvalidArgument(f'tool_choice is "{choice}", but there are no tools', reason="TOOLS_MISSING")
        return None
    if choice == "none":
        return None
    if call.messages is None:
        raise InvalidArgument("tools need messages: a bare prompt has no place for them", reason="TOOLS_NEED_MESSAGES")
    if call.constraint is not None:
        raise InvalidArgument(
            "constraint and tools exclude each other, because both say what the answer looks like: "
            'leave one out, or set tool_choice to "none"',
            reason="CONSTRAINT_WITH_TOOLS",
        )
    if choice == "named":
        return ToolPlan(tools, (_named(tools, call.tool_name),), "named", several=False)
    return ToolPlan(tools, tools, choice, several=call.parallel_tool_calls)


def check_tools(tools: tuple[Tool, ...]) -> tuple[CheckedTool, ...]:
    """The tools with their schemas parsed. Raises InvalidArgument for what is wrong with them."""
    if len(tools) > limits.tools_max:
        raise InvalidArgument(f"{len(tools):,} tools, at most {limits.tools_max} are allowed", reason="TOOL_INVALID")
    checked, names, size = [], set[str](), 0
    for number, tool in enumerate(tools):
        if not TOOL_NAME.fullmatch(tool.name):
            raise InvalidArgument(
                f"the name of tool {number} must be 1 to {limits.tool_name_chars_max} of the characters "
                "A-Z a-z 0-9 _ . -",
                reason="TOOL_INVALID",
            )
        if tool.name in names:
            raise InvalidArgument(f'two tools have the name "{tool.name}"', reason="TOOL_INVALID")
        names.add(tool.name)
        described = len(utf8(tool.description, f'the description of tool "{tool.name}"'))
        if described > limits.tool_description_bytes_max:
            raise InvalidArgument(
                f'the description of tool "{tool.name}" has {described:,} bytes, at most '
                f"{limits.tool_description_bytes_max:,} are allowed",
                reason="TOOL_INVALID",
            )
        size += len(tool.parameters)
        if size > limits.constraint_bytes_max:
            raise InvalidArgument(
                f"the schemas of the tools have more than {limits.constraint_bytes_max:,} bytes together",
                reason="TOOL_INVALID",
            )
        checked.append(_checked(tool))
    return tuple(checked)


def _checked(tool: Tool) -> CheckedTool:
    if not tool.parameters.strip():
        schema: dict[str, Any] = {"type": "object", "properties": {}}
        return CheckedTool(tool.name, tool.description, schema, {**schema, "additionalProperties": False})
    what = f'the parameters of tool "{tool.name}"'
    schema = parse_object(tool.parameters, what, limits.constraint_bytes_max, "TOOL_INVALID")
    if schema and schema.get("type", "object") != "object":
        raise InvalidArgument(f'{what} must be a JSON Schema of type "object"', reason="TOOL_INVALID")
    arguments = {**_without_remarks(schema), "type": "object"}
    # A function has the parameters that its schema lists. A model that may invent others does, and the caller fails.
    if not _OPEN_KEYS & schema.keys() and "properties" in schema:
        arguments["additionalProperties"] = False
    return CheckedTool(tool.name, tool.description, schema, arguments)


def _without_remarks(schema: Any) -> Any:
    """``schema`` (its depth bounded) as far as it says which documents are valid."""
    if isinstance(schema, list):
        return [_without_remarks(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    result = {}
    for key, value in schema.items():
        if key in _NAMES and isinstance(value, dict):
            result[key] = {name: _without_remarks(part) for name, part in value.items()}
        elif key not in _REMARKS:
            result[key] = value if key in _DOCUMENTS else _without_remarks(value)
    return result


def _named(tools: tuple[CheckedTool, ...], name: str) -> CheckedTool:
    for tool in tools:
        if tool.name == name:
            return tool
    known = ", ".join(tool.name for tool in tools)[: limits.quoted_chars_max * 4]
    raise InvalidArgument(
        f'tool_choice names "{name[: limits.quoted_chars_max]}", the tools are {known}', reason="TOOL_UNKNOWN"
    )


def blame_tool(tools: Sequence[CheckedTool], compile_constraint: Callable[[Constraint], object]) -> None:
    """For a grammar of tools that cannot be compiled: raises InvalidArgument that names the tool whose schema is why.

    Returns when each of them compiles alone: then they are too much together.
    """
    for tool in tools:
        try:
            compile_constraint(Constraint("json_schema", json.dumps(tool.arguments)))
        except InvalidArgument as error:
            raise InvalidArgument(
                f'the parameters of tool "{tool.name}": {error.message}', reason=error.reason
            ) from None
