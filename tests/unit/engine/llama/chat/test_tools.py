"""Tools and tool choices: what is refused, and what is planned."""

import json

import pytest

from appliance import limits
from appliance.calls import ChatMessage, Constraint, GenerateCall, Tool
from appliance.engine.llama.chat.tools import blame_tool, check_tools, plan_tools
from appliance.errors import InvalidArgument

F, G = Tool("f", "F."), Tool("g", "", '{"properties": {"a": {"type": "integer"}}}')
USER = (ChatMessage("user", "?"),)


def call(choice="", tools=(F, G), **more):
    return GenerateCall(**{"messages": USER, "tools": tools, "tool_choice": choice, **more})


@pytest.mark.parametrize(
    ("choice", "more", "callable_", "planned", "several"),
    [
        ("", {}, ["f", "g"], "auto", True),
        ("auto", {"parallel_tool_calls": False}, ["f", "g"], "auto", False),
        ("required", {}, ["f", "g"], "required", True),
        ("required", {"parallel_tool_calls": False}, ["f", "g"], "required", False),
        ("named", {"tool_name": "g"}, ["g"], "named", False),
    ],
)
def test_plans(choice, more, callable_, planned, several):
    plan = plan_tools(call(choice, **more))
    assert [tool.name for tool in plan.offered] == ["f", "g"]
    assert [tool.name for tool in plan.callable] == callable_
    assert (plan.choice, plan.several, plan.required) == (planned, several, planned != "auto")


@pytest.mark.parametrize(
    "asked", [call("none"), call(tools=()), call("auto", ()), call("none", constraint=Constraint("json")), call("none", ())]
)  # fmt: skip
def test_nothing_to_call(asked):
    assert plan_tools(asked) is None


@pytest.mark.parametrize(
    ("asked", "reason", "words"),
    [
        (call("required", ()), "TOOLS_MISSING", "no tools"),
        (call("named", (), tool_name="f"), "TOOLS_MISSING", "no tools"),
        (call("named", tool_name="h"), "TOOL_UNKNOWN", '"h", the tools are f, g'),
        (call("named"), "TOOL_UNKNOWN", "the tools are f, g"),
        (call(constraint=Constraint("json")), "CONSTRAINT_WITH_TOOLS", "exclude each other"),
        (call(messages=None, prompt="x"), "TOOLS_NEED_MESSAGES", "bare prompt"),
    ],
)
def test_refused_choices(asked, reason, words):
    with pytest.raises(InvalidArgument, match=words) as caught:
        plan_tools(asked)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ((Tool(""),), "name of tool 0"),
        ((F, Tool("a b")), "name of tool 1"),
        ((Tool("é"),), "name of tool 0"),
        ((Tool("f\n"),), "name of tool 0"),
        ((Tool("f" * 65),), "1 to 64"),
        ((F, F), 'two tools have the name "f"'),
        ((Tool("f", "x" * (limits.tool_description_bytes_max + 1)),), "description of tool"),
        ((Tool("f", "\ud800"),), "not valid Unicode"),
        (tuple(Tool(f"f{n}") for n in range(limits.tools_max + 1)), "129 tools, at most 128"),
        ((Tool("f", "", "{"),), 'parameters of tool "f" is not valid JSON'),
        ((Tool("f", "", "[]"),), "must be a JSON object"),
        ((Tool("f", "", '{"type": "string"}'),), 'of type "object"'),
        ((Tool("f", "", '{"type": ["object", "null"]}'),), 'of type "object"'),
        ((Tool("f", "", '{"properties":' * 10_000 + "{}" + "}" * 10_000),), "nested deeper"),
        ((Tool("f", "", '{"a": "' + "x" * limits.constraint_bytes_max + '"}'),), "bytes together"),
        (tuple(Tool(f"f{n}", "", '{"a": "' + "x" * 100_000 + '"}') for n in range(3)), "bytes together"),
    ],
)
def test_refused_tools(tools, words):
    for choice in ("auto", "none"):
        with pytest.raises(InvalidArgument, match=words):
            plan_tools(call(choice, tools))


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        ("", True),
        ("{}", False),
        ('{"properties": {"a": {}}}', True),
        ('{"type": "object", "properties": {"a": {}}}', True),
        ('{"properties": {"a": {}}, "additionalProperties": true}', False),
        ('{"properties": {"a": {}}, "additionalProperties": {"type": "string"}}', False),
        ('{"properties": {"a": {}}, "patternProperties": {"^b": {}}}', False),
        ('{"properties": {"a": {}}, "anyOf": [{"required": ["b"]}]}', False),
        ('{"$ref": "#/$defs/x", "properties": {}, "$defs": {"x": {}}}', False),
    ],
)
def test_arguments_are_those_of_the_schema(schema, closed):
    (tool,) = check_tools((Tool("f", "", schema),))
    assert (tool.arguments.get("additionalProperties") is False) == closed
    assert tool.arguments["type"] == "object"
    if schema:
        assert tool.schema == json.loads(schema)


def test_what_only_remarks_is_told_but_not_compiled():
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "T",
        "properties": {
            "description": {"type": "string", "description": "d", "default": "x"},
            "title": {"anyOf": [{"type": "null", "title": "N"}, {"enum": [{"title": "kept"}]}]},
            "examples": {"const": {"description": "kept"}, "examples": [1]},
        },
        "$defs": {"default": {"items": {"$comment": "c", "type": "integer"}}},
    }
    (tool,) = check_tools((Tool("f", "", json.dumps(schema)),))
    assert tool.schema == schema
    assert tool.arguments == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "description": {"type": "string"},
            "title": {"anyOf": [{"type": "null"}, {"enum": [{"title": "kept"}]}]},
            "examples": {"const": {"description": "kept"}},
        },
        "$defs": {"default": {"items": {"type": "integer"}}},
        "additionalProperties": False,
    }


def test_the_tool_that_cannot_be_compiled_is_named():
    plan = plan_tools(call())

    def compile_constraint(constraint):
        assert constraint.kind == "json_schema"
        if "integer" in constraint.text:
            raise InvalidArgument("too hard", reason="SCHEMA_UNSUPPORTED")

    with pytest.raises(InvalidArgument, match='parameters of tool "g": too hard') as caught:
        blame_tool(plan.callable, compile_constraint)
    assert caught.value.reason == "SCHEMA_UNSUPPORTED"
    blame_tool(plan.callable[:1], compile_constraint)
