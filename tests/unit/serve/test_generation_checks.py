"""Every bound of a generation that does not depend on its model: just inside is taken, just outside is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.calls import ChatMessage, Constraint, GenerateCall, Sampling, Tool, ToolCall
from appliance.errors import InvalidArgument
from appliance.serve.generation_checks import check, check_texts

USER = ChatMessage("user", "hi")
TOOL = Tool("look", "looks", "{}")


def prompted(**fields: Any) -> GenerateCall:
    return GenerateCall(prompt="hi", **fields)


def chatted(*messages: ChatMessage, **fields: Any) -> GenerateCall:
    return GenerateCall(messages=messages or (USER,), **fields)


def called(*calls: ToolCall) -> GenerateCall:
    return chatted(USER, ChatMessage("assistant", "", calls))


@pytest.mark.parametrize(
    "call",
    [
        prompted(),
        GenerateCall(prompt=""),
        GenerateCall(prompt="x" * limits.prompt_bytes_max),
        prompted(n=16, max_tokens=2**31 - 1, min_tokens=2**31 - 1, logprobs=20, stop=("x" * 256,) * 16),
        prompted(stop_token_ids=tuple(range(64)), logit_bias=((0, -100.0), (2**31 - 1, 100.0))),
        prompted(logit_bias=tuple((i, 0.5) for i in range(1024))),
        prompted(adapter="a" * 96, constraint=Constraint("regex", "x" * limits.constraint_bytes_max)),
        prompted(constraint=Constraint("choice", choices=("a",) * 1024)),
        prompted(constraint=Constraint("json")),
        chatted(*[USER] * 4096),
        chatted(tools=tuple(Tool(f"t{i}") for i in range(128)), tool_choice="auto"),
        chatted(tools=(Tool("A-z_0.9" + "x" * 57, "d" * 16384, " " * 262144),), tool_choice="required"),
        chatted(tools=(TOOL,), tool_choice="named", tool_name="look"),
        chatted(tool_choice="none"),
        called(*[ToolCall("i" * 256, "look", "x" * 262144)] * 15),
        called(*[ToolCall("", "look", "{}")] * 64),
        chatted(USER, ChatMessage("tool", "42", tool_call_id="i" * 256, name="look")),
        chatted(USER, ChatMessage("assistant", "so", reasoning="hm")),
    ],
)
def test_taken(call: GenerateCall) -> None:
    assert check(call) is call


@pytest.mark.parametrize(
    ("call", "reason", "words"),
    [
        (GenerateCall(prompt="ä" * (limits.prompt_bytes_max // 2 + 1)), "PROMPT_SIZE", "the prompt has 4194306 bytes"),
        (prompted(n=17), "N", "n is 17, from 1 to 16"),
        (prompted(n=-1), "N", "n is -1"),
        (prompted(max_tokens=-1), "MAX_TOKENS", "max_tokens is -1"),
        (prompted(max_tokens=2**31), "MAX_TOKENS", "max_tokens is 2147483648"),
        (prompted(min_tokens=-1), "MIN_TOKENS", "min_tokens is -1"),
        (prompted(min_tokens=9, max_tokens=8), "MIN_TOKENS", "min_tokens is 9, more than max_tokens, which is 8"),
        (prompted(logprobs=21), "LOGPROBS", "logprobs is 21"),
        (prompted(stop=("x",) * 1000), "STOP", "1000 stop strings came, at most 16"),
        (prompted(stop=("x" * 257,)), "STOP", "has 257 bytes"),
        (prompted(stop=("",)), "STOP", "has 0 bytes"),
        (prompted(stop_token_ids=tuple(range(65))), "STOP_TOKEN_IDS", "65 stop token ids"),
        (prompted(stop_token_ids=(-1,)), "STOP_TOKEN_IDS", "-1, which is no token id"),
        (prompted(logit_bias=tuple((i, 0.5) for i in range(1025))), "LOGIT_BIAS", "1025 entries"),
        (prompted(logit_bias=((7, 100.5),)), "LOGIT_BIAS", "token 7 is 100.5, from -100 to 100"),
        (prompted(logit_bias=((7, float("nan")),)), "LOGIT_BIAS", "token 7 is nan"),
        (prompted(logit_bias=((7, float("-inf")),)), "LOGIT_BIAS", "token 7 is -inf"),
        (prompted(logit_bias=((-7, 1.0),)), "LOGIT_BIAS", "-7, which is no token id"),
        (prompted(sampling=Sampling(temperature=float("nan"))), "TEMPERATURE", "temperature is nan"),
        (prompted(sampling=Sampling(frequency_penalty=float("inf"))), "FREQUENCY_PENALTY", "is inf"),
        (prompted(adapter="a" * 97), "ADAPTER", "has 97 characters"),
        (prompted(constraint=Constraint("regex", "x" * 262145)), "CONSTRAINT_SIZE", "262145 bytes, at most 262144"),
        (prompted(constraint=Constraint("json_schema", " \n")), "CONSTRAINT_EMPTY", "'json_schema' is empty"),
        (prompted(constraint=Constraint("choice")), "CONSTRAINT_SIZE", "0 choices came"),
        (prompted(constraint=Constraint("choice", choices=("a",) * 1025)), "CONSTRAINT_SIZE", "1025 choices came"),
        (prompted(constraint=Constraint("choice", choices=("a" * 262145,))), "CONSTRAINT_SIZE", "262145 bytes"),
        (GenerateCall(messages=()), "MESSAGES", "0 messages came"),
        (chatted(*[USER] * 4097), "MESSAGES", "4097 messages came"),
        (chatted(ChatMessage("robot" * 100, "x")), "ROLE", "message 0 has role 'robotrobot"),
        (chatted(USER, ChatMessage("user", "x", (ToolCall("", "a", ""),))), "ROLE", "message 1 has tool_calls"),
        (chatted(ChatMessage("system", "x", reasoning="hm")), "ROLE", "message 0 has reasoning, which only"),
        (
            chatted(ChatMessage("assistant", "x", tool_call_id="1")),
            "ROLE",
            "of role 'tool' have; its role is 'assistant'",
        ),
        (chatted(ChatMessage("user", "x", name="bob")), "ROLE", "has name"),
        (chatted(ChatMessage("tool", "x", tool_call_id="i" * 257)), "TOOL_CALL", "tool_call_id of 257 characters"),
        (chatted(ChatMessage("tool", "x", name="no no")), "TOOL_NAME", "has the name 'no no'"),
        (called(*[ToolCall("", "a", "")] * 65), "TOOL_CALL", "message 1 has 65 tool calls"),
        (called(ToolCall("", "", "{}")), "TOOL_NAME", "a tool call of message 1 has the name ''"),
        (called(ToolCall("i" * 257, "a", "{}")), "TOOL_CALL", "an id of 257 characters"),
        (called(ToolCall("", "a", "x" * 2**20)), "TOOL_ARGUMENTS_SIZE", "have 1048576 bytes, at most 262144"),
        (chatted(tools=tuple(Tool(f"t{i}") for i in range(129))), "TOOLS", "129 tools came"),
        (chatted(tools=(Tool("x" * 65),)), "TOOL_NAME", "tool 0 has the name"),
        (chatted(tools=(TOOL, Tool("b\n"))), "TOOL_NAME", "tool 1 has the name"),
        (chatted(tools=(TOOL, TOOL)), "TOOL_NAME", "two tools with the name 'look'"),
        (chatted(tools=(Tool("a", "d" * 16385),)), "TOOL_SIZE", "tool 'a' has a description of 16385 bytes"),
        (chatted(tools=(Tool("a", "", "x" * 262145),)), "TOOL_SIZE", "a schema of parameters of 262145 bytes"),
        (chatted(tool_choice="required"), "TOOL_CHOICE", "no tools came"),
        (chatted(tool_choice="named", tool_name="look"), "TOOL_CHOICE", "no tools came"),
        (chatted(tools=(TOOL,), tool_choice="named", tool_name="lock"), "TOOL_CHOICE", "names 'lock'"),
        (chatted(tools=(TOOL,), tool_choice="auto", tool_name="look"), "TOOL_CHOICE", "not NAMED"),
        (chatted(ChatMessage("user", "x" * 2**21), ChatMessage("user", "x" * (2**21 + 1))), "PROMPT_SIZE", "4194305"),
        (
            chatted(tools=tuple(Tool(f"t{i}", "", " " * 262144) for i in range(16))),
            "PROMPT_SIZE",
            "bytes, its tools included, at most",
        ),
    ],
)
def test_refused(call: GenerateCall, reason: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(call)
    assert caught.value.reason == reason
    assert words in caught.value.message


@given(st.text(min_size=1, max_size=80))
def test_only_plain_names_are_tools(name: str) -> None:
    plain = len(name) <= 64 and all(c.isascii() and (c.isalnum() or c in "_-.") for c in name)
    call = chatted(tools=(Tool(name),))
    if plain:
        assert check(call) is call
        return
    with pytest.raises(InvalidArgument, match="a tool's name has"):
        check(call)


def test_texts_are_counted_with_what_comes_beside_them() -> None:
    check_texts("documents", ("x",) * 256, 256, "query")
    with pytest.raises(InvalidArgument, match="257 documents came"):
        check_texts("documents", ("x",) * 257, 256, "query")
    with pytest.raises(InvalidArgument, match="the documents have 4194305 bytes"):
        check_texts("documents", ("x",), 256, "x" * limits.prompt_bytes_max)
