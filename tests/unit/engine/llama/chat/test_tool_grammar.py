"""Grammars of tool calls: what they let through, and that whatever is drawn under them parses and validates."""

import json
import random

import pytest
from tiny_vocab import TinyVocab

from appliance.calls import ChatMessage, GenerateCall, Tool
from appliance.engine.llama.chat import syntax as syntaxes
from appliance.engine.llama.chat.markers import find_marker
from appliance.engine.llama.chat.reasoning import find_span
from appliance.engine.llama.chat.tool_grammar import tool_grammar
from appliance.engine.llama.chat.tool_parser import SpanParser
from appliance.engine.llama.chat.tools import blame_tool, plan_tools
from appliance.engine.llama.constrain.compiler import GrammarCompiler
from appliance.errors import InvalidArgument

WORDS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]")
WEATHER = Tool(
    "get_weather",
    "The weather at a place.",
    json.dumps(
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 8},
                "days": {"type": "integer", "minimum": 1, "maximum": 14},
                "unit": {"enum": ["C", "F"]},
            },
            "required": ["city"],
        }
    ),
)
LIGHTS = Tool(
    "lights.set-2",
    "",
    json.dumps(
        {
            "type": "object",
            "properties": {"on": {"type": "boolean"}, "rooms": {"type": "array", "items": {"$ref": "#/$defs/room"}, "maxItems": 2}},
            "required": ["on", "rooms"],
            "additionalProperties": False,
            "$defs": {"room": {"type": "string", "pattern": "^[a-c]{1,3}$"}},
        }
    ),
)  # fmt: skip
CLOCK = Tool("get", "No arguments.")
TOOLS = (WEATHER, LIGHTS, CLOCK)
SYNTAXES = {
    "hermes": syntaxes.HERMES,
    "llama3": syntaxes.LLAMA3,
    "llama3_tag": syntaxes.LLAMA3_TAG,
    "mistral": syntaxes.MISTRAL,
    "mistral_args": syntaxes.MISTRAL_ARGS,
    "mistral_call_id": syntaxes.MISTRAL_CALL_ID,
}
W = '{"city": "Oslo", "days": 3}'
L = '{"on": true, "rooms": ["ab"]}'
# One call, and two.
WRITTEN = {
    "hermes": (
        '<tool_call>\n{"name": "get_weather", "arguments": ' + W + "}\n</tool_call>",
        '\n<tool_call>\n{"name": "lights.set-2", "arguments": ' + L + "}\n</tool_call>",
    ),
    "llama3": (
        '{"name": "get_weather", "parameters": ' + W + "}",
        '; {"name": "lights.set-2", "parameters": ' + L + "}",
    ),
    "llama3_tag": (
        '<|python_tag|>{"name": "get_weather", "parameters": ' + W + "}",
        '; {"name": "lights.set-2", "parameters": ' + L + "}",
    ),
    "mistral": (
        '[TOOL_CALLS][{"name": "get_weather", "arguments": ' + W + "}",
        ', {"name": "lights.set-2", "arguments": ' + L + "}",
    ),
    "mistral_args": (f"[TOOL_CALLS]get_weather[ARGS]{W}", f"[TOOL_CALLS]lights.set-2[ARGS]{L}"),
    "mistral_call_id": (
        f"[TOOL_CALLS]get_weather[CALL_ID]abcdefgh1[ARGS]{W}",
        f"[TOOL_CALLS]lights.set-2[CALL_ID]abcdefgh2[ARGS]{L}",
    ),
}
END = {"mistral": "]"}


@pytest.fixture(scope="module", params=["control", "user", "text"])
def tiny(request, tmp_path_factory):
    made = TinyVocab(tmp_path_factory.mktemp("vocab"), **({request.param: WORDS} if request.param != "text" else {}))
    yield made
    made.close()


def grammar_of(tiny, name, choice="auto", *, parallel=True, tools=TOOLS, thinks=False, inside=False):
    call = GenerateCall(
        messages=(ChatMessage("user", "?"),),
        tools=tools,
        tool_choice=choice,
        tool_name=tools[0].name if choice == "named" else "",
        parallel_tool_calls=parallel,
    )
    syntax = SYNTAXES[name]
    markers = {text: find_marker(tiny.vocab, text) for text in syntax.markers}
    span = find_span("<think>", tiny.vocab) if thinks or inside else None
    return tool_grammar(plan_tools(call), syntax, markers, span, inside=inside)


CHOICES = [
    # choice, parallel: text alone, one call, two calls, text and a call
    ("auto", True, True, True, True, True),
    ("auto", False, True, True, False, True),
    ("required", True, False, True, True, False),
    ("required", False, False, True, False, False),
    ("named", True, False, True, False, False),
]


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize(("choice", "parallel", "text", "one", "two", "mixed"), CHOICES)
def test_what_each_choice_lets_through(tiny, name, choice, parallel, text, one, two, mixed):
    grammar = grammar_of(tiny, name, choice, parallel=parallel)
    first, second = WRITTEN[name]
    end = END.get(name, "")
    assert tiny.accepts(grammar, "Just text: {1} [2].\n") == text
    assert tiny.accepts(grammar, "") == text
    assert tiny.accepts(grammar, first + end) == one
    assert tiny.accepts(grammar, first + second + end) == two
    if name != "llama3":  # it has no marker that could follow text
        assert tiny.accepts(grammar, f"Let me see.\n{first}{end}") == mixed
    assert not tiny.accepts(grammar, first + end + " And more.")
    assert not tiny.accepts(grammar, first[:-1])


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("get_weather", "get_whatever"),
        ("get_weather", "get_weather2"),
        ('"Oslo"', "7"),
        ('"Oslo"', '"Longer than 8"'),
        ("3", "15"),
        ("3}", '3, "other": 1}'),
        ('{"city": "Oslo", "days": 3}', "{}"),
        ('{"city": "Oslo", "days": 3}', "[]"),
    ],
)
def test_a_call_that_does_not_validate_cannot_be_written(tiny, name, old, new):
    first = WRITTEN[name][0]
    assert old in first
    for choice in ("auto", "required", "named"):
        assert not tiny.accepts(grammar_of(tiny, name, choice), first.replace(old, new) + END.get(name, ""))


@pytest.mark.parametrize("name", SYNTAXES)
def test_named_lets_only_that_tool_through(tiny, name):
    other = GenerateCall(messages=(ChatMessage("user", "?"),), tools=TOOLS, tool_choice="named", tool_name="get")
    assert plan_tools(other).callable[0].name == "get"
    grammar = grammar_of(tiny, name, "named", tools=(LIGHTS, WEATHER))
    assert not tiny.accepts(grammar, WRITTEN[name][0] + END.get(name, ""))


@pytest.mark.parametrize("name", SYNTAXES)
def test_reasoning_may_come_first(tiny, name):
    first, end = WRITTEN[name][0], END.get(name, "")
    for choice in ("auto", "required"):
        thinks = grammar_of(tiny, name, choice, thinks=True)
        assert tiny.accepts(thinks, f"<think>\nHm. {{\n</think>\n\n{first}{end}")
        assert tiny.accepts(thinks, first + end)
        assert tiny.accepts(thinks, "<think>\nHm.\n</think>\n\nHello.") == (choice == "auto")
        assert not tiny.accepts(thinks, f"<think>\nHm. {first}{end}")
        inside = grammar_of(tiny, name, choice, inside=True)
        assert tiny.accepts(inside, f"Hm.\n</think>\n\n{first}{end}")
        assert not tiny.accepts(inside, first + end)
        assert not tiny.accepts(grammar_of(tiny, name, "required"), f"<think>\nHm.\n</think>\n\n{first}{end}")


@pytest.mark.parametrize("name", SYNTAXES)
def test_the_compiler_takes_them(tiny, name):
    compiler = GrammarCompiler(tiny.vocab)
    for choice, thinks in (("auto", True), ("required", False), ("named", True)):
        mask = compiler.compile_lark(grammar_of(tiny, name, choice, thinks=thinks)).start()
        for token in tiny.tokens(WRITTEN[name][0] + END.get(name, "")):
            mask.accept(token)
        assert mask.may_end


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"properties": {"a": {"minimum": 3, "maximum": 1, "type": "integer"}}, "required": ["a"]}, "nsatisfiable"),
        ({"properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "without an end"),
        ({"properties": {"a": {"not": {"type": "string"}}}}, "not"),
        ({"properties": {"a": {"$ref": "https://example.com/x"}}}, "outside of it"),
    ],
)
def test_a_schema_that_cannot_be_held_is_refused_with_the_tools_name(tiny, schema, words):
    bad = Tool("bad", "", json.dumps(schema))
    compiler = GrammarCompiler(tiny.vocab)
    plan = plan_tools(GenerateCall(messages=(ChatMessage("user", "?"),), tools=(CLOCK, bad)))
    with pytest.raises(InvalidArgument, match=words):
        compiler.compile_lark(grammar_of(tiny, "hermes", tools=(CLOCK, bad)))
    with pytest.raises(InvalidArgument, match=f'the parameters of tool "bad".*{words}'):
        blame_tool(plan.callable, compiler.compile)


def draw(tiny, grammar, rng, start="", steps=400):
    """Tokens at random under the mask, with a liking for what comes to an end. Gives them, and whether it did."""
    matcher, tokens = tiny.matcher(grammar), tiny.tokens(start)
    taken = matcher.try_consume_tokens(tokens)
    tokens = tokens[:taken]
    likes = [tiny.eos, *(token for word, token in tiny.ids.items() if word in WORDS), *b'"}]/<']
    for _ in range(steps):
        mask = matcher.compute_logit_bias()
        allowed = [token for token in range(len(mask)) if mask[token]]
        liked = [token for token in likes if mask[token]]
        if not allowed:
            return tokens, matcher.is_accepting()
        token = rng.choice(liked if liked and rng.random() < 0.4 else allowed)
        if token == tiny.eos:
            return tokens, True
        assert matcher.consume_token(token)
        tokens.append(token)
    return tokens, False


def validates(call):
    arguments = json.loads(call.arguments)
    if call.name == "get":
        return arguments == {}
    if call.name == "get_weather":
        return (
            isinstance(arguments["city"], str)
            and len(arguments["city"]) <= 8
            and 1 <= arguments.get("days", 1) <= 14
            and arguments.get("unit", "C") in ("C", "F")
            and arguments.keys() <= {"city", "days", "unit"}
        )
    rooms = arguments["rooms"]
    return (
        call.name == "lights.set-2"
        and isinstance(arguments["on"], bool)
        and len(rooms) <= 2
        and all(1 <= len(room) <= 3 and set(room) <= set("abc") for room in rooms)
    )


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize(
    ("choice", "parallel"), [("auto", True), ("required", True), ("required", False), ("named", True)]
)
@pytest.mark.parametrize("thinks", [False, True])
def test_whatever_is_drawn_parses_and_validates(tiny, name, choice, parallel, thinks):
    rng = random.Random(f"{name}{choice}{parallel}{thinks}")
    grammar = grammar_of(tiny, name, choice, parallel=parallel, thinks=thinks)
    seen = 0
    begin = SYNTAXES[name].opening or '{"name": "'
    for number in range(6):
        # Left to chance, text and reasoning would seldom come to an end.
        start = "<think>Hm.</think>" if thinks and number % 2 else ""
        start += begin if choice == "auto" and number > 1 else ""
        tokens, ended = draw(tiny, grammar, rng, start)
        parser = SpanParser(("<think>", "</think>") if thinks else None, syntax=SYNTAXES[name])
        parts = [parser.push(tiny.text(tokens)), parser.finish()]
        calls = [call for part in parts for call in part.tool_calls]
        assert all(validates(call) for call in calls)
        if ended and choice != "auto":
            assert calls
        if ended and (not parallel or choice == "named"):
            assert len(calls) == 1
        if ended and calls:
            assert not SYNTAXES[name].opening or SYNTAXES[name].opening not in "".join(part.text for part in parts)
        seen += len(calls)
    assert seen
