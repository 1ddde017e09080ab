"""How models write tool calls: a table, and which of its rows a chat template was written for.

A call is written between markers, as literals around the tool's name and its arguments. Spaces are as Python's
json.dumps and the ``tojson`` of templates put them, because that is what the models were trained on.
"""

import re

import msgspec

NAME = "\0name"
ARGUMENTS = "\0arguments"
CALL_ID = "\0id"


class ToolSyntax(msgspec.Struct, frozen=True):
    """One way to write calls: opening prefix call (between call)* suffix.

    ``opening`` is the marker that begins them ("": none). ``bare``: an answer that begins with the call itself is one
    too. ``call`` and ``between`` are literals, markers (all that ``markers`` names) and the places of name and
    arguments. ``arguments_key`` is the key of the arguments in the call's object; "" where the object is the arguments.
    ``parallel``: several calls can follow each other. ``native``: the template writes tools and calls itself.
    """

    name: str
    call: tuple[str, ...]
    opening: str = ""
    bare: bool = False
    prefix: str = ""
    between: tuple[str, ...] = ()
    suffix: str = ""
    arguments_key: str = "arguments"
    markers: tuple[str, ...] = ()
    parallel: bool = True
    native: bool = True


HERMES = ToolSyntax(
    "hermes",
    call=('\n{"name": "', NAME, '", "arguments": ', ARGUMENTS, "}\n", "</tool_call>"),
    opening="<tool_call>",
    between=("\n", "<tool_call>"),
    markers=("<tool_call>", "</tool_call>"),
)
LLAMA3 = ToolSyntax(
    "llama3",
    call=('{"name": "', NAME, '", "parameters": ', ARGUMENTS, "}"),
    bare=True,
    between=("; ",),
    arguments_key="parameters",
)
LLAMA3_TAG = msgspec.structs.replace(LLAMA3, opening="<|python_tag|>", markers=("<|python_tag|>",))
MISTRAL = ToolSyntax(
    "mistral",
    call=('{"name": "', NAME, '", "arguments": ', ARGUMENTS, "}"),
    opening="[TOOL_CALLS]",
    prefix="[",
    between=(", ",),
    suffix="]",
    markers=("[TOOL_CALLS]",),
)
MISTRAL_ARGS = ToolSyntax(
    "mistral_args",
    call=(NAME, "[ARGS]", ARGUMENTS),
    opening="[TOOL_CALLS]",
    between=("[TOOL_CALLS]",),
    arguments_key="",
    markers=("[TOOL_CALLS]", "[ARGS]"),
)
MISTRAL_CALL_ID = msgspec.structs.replace(
    MISTRAL_ARGS,
    call=(NAME, "[CALL_ID]", CALL_ID, "[ARGS]", ARGUMENTS),
    markers=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"),
)
# For templates without tools, or with a syntax that is not known here: the most widespread one, explained in a message.
GENERIC = msgspec.structs.replace(HERMES, name="generic", native=False)

# GLM, Qwen 3 Coder and others write something else between the same markers.
_OTHER_BODIES = ("<arg_key>", "<function=", "<parameter=")


def find_syntax(source: str) -> ToolSyntax:
    """The syntax that a template's source shows; GENERIC when it shows none that is known."""
    if not re.search(r"\btools\b", source):
        return GENERIC
    if "[TOOL_CALLS]" in source:
        if "[CALL_ID]" in source:
            return MISTRAL_CALL_ID
        return MISTRAL_ARGS if "[ARGS]" in source else MISTRAL
    if "<tool_call>" in source and not any(other in source for other in _OTHER_BODIES):
        return HERMES
    if "<|start_header_id|>" in source and re.search(r'"parameters\\?":', source):
        syntax = LLAMA3_TAG if "<|python_tag|>" in source else LLAMA3
        # Llama 3.1's template refuses a conversation with two calls in one turn, so two must not come out either.
        return msgspec.structs.replace(syntax, parallel="single tool-call" not in source)
    return GENERIC
