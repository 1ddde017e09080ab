"""What a call may ask of its answer: least and most tokens, stops, biases, constraints, tools; and every bad value."""

import json

import pytest
from llama_harness import make_engine, run, submit
from tiny_gguf import IM_END, VOCAB

from appliance.calls import ChatMessage, Constraint, GenerateCall, Sampling, Tool
from appliance.errors import InvalidArgument

GREEDY = Sampling(temperature=0.0)
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "count": {"type": "integer", "maximum": 99}},
        "required": ["name", "count"],
        "additionalProperties": False,
    }
)
WEATHER = Tool("weather", "Tells the weather", json.dumps(
    {"type": "object", "properties": {"city": {"enum": ["Bern", "Rome"]}}, "required": ["city"],
     "additionalProperties": False}))  # fmt: skip


def generate(prompt="a", **options):
    options.setdefault("sampling", GREEDY)
    return GenerateCall(prompt=prompt, **options)


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    """After a: bcdef, then the end of the turn."""
    engine = make_engine(tmp_path_factory.mktemp("scripted"), script=b"abcdef", context=512)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    """Random weights: it says anything."""
    engine = make_engine(tmp_path_factory.mktemp("wild"), context=1024)
    yield engine
    engine.close()


# --- ends -------------------------------------------------------------------------------------------------------------


def test_the_turn_ends_by_itself(scripted):
    reply = run(scripted, generate())
    assert (reply.text, reply.done.reason) == ("bcdef", "stop")


def test_min_tokens_puts_off_the_end_of_the_turn(scripted):
    reply = run(scripted, generate(min_tokens=8, max_tokens=9))
    assert reply.done.completion_tokens >= 8
    assert reply.text.startswith("bcdef")
    assert len(reply.text) >= 6


def test_ignore_eos_goes_on_to_max_tokens(scripted):
    reply = run(scripted, generate(ignore_eos=True, max_tokens=40))
    assert (reply.done.completion_tokens, reply.done.reason) == (40, "length")


@pytest.mark.parametrize(("ids", "text"), [((ord("d"),), "bc"), ((ord("x"),), "bcdef"), ((ord("f"), ord("b")), "")])
def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(scripted, ids, text):
    reply = run(scripted, generate(stop_token_ids=ids))
    assert (reply.text, reply.done.reason) == (text, "stop")


def test_min_tokens_holds_for_stop_tokens_too(scripted):
    reply = run(scripted, generate(stop_token_ids=(ord("c"),), min_tokens=2, max_tokens=10))
    assert "c" not in reply.text[:2]


# --- biases and log-probabilities -------------------------------------------------------------------------------------


def test_a_bias_bans_and_forces(scripted):
    assert not run(scripted, generate(logit_bias=((ord("b"), -100.0),), max_tokens=1)).text.startswith("b")
    assert run(scripted, generate(logit_bias=((ord("z"), 100.0),), max_tokens=3)).text == "zzz"


def test_log_probabilities_are_the_models_own_whatever_the_bias(scripted):
    plain = run(scripted, generate(logprobs=2, max_tokens=1))
    biased = run(scripted, generate(logprobs=2, max_tokens=1, logit_bias=((ord("z"), 100.0),)))
    (a,), (b,) = (piece.logprobs for reply in (plain, biased) for piece in reply.pieces)
    assert a.top[0].token == b.top[0].token == ord("b")
    assert a.top[0].logprob == pytest.approx(b.top[0].logprob, abs=1e-4)
    assert b.chosen.token == ord("z")
    assert b.chosen.logprob < a.chosen.logprob


# --- constraints ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_an_answer_that_must_follow_a_schema_does(wild, seed, temperature):
    sampling = Sampling(temperature=temperature, seed=seed, top_k=0, top_p=1.0, min_p=0.0)
    reply = run(wild, generate(constraint=Constraint("json_schema", SCHEMA), sampling=sampling, max_tokens=300))
    assert reply.done.reason == "stop"
    found = json.loads(reply.text)
    assert set(found) == {"name", "count"}
    assert len(found["name"]) <= 8
    assert found["count"] <= 99


@pytest.mark.parametrize(
    ("constraint", "allowed"),
    [
        (Constraint("choice", choices=("yes", "no", 'n\u00f6 "way"\n')), {"yes", "no", 'n\u00f6 "way"\n'}),
        (Constraint("regex", "[0-9]{3}"), None),
        (Constraint("lark", 'start: "on" | "off"'), {"on", "off"}),
        (Constraint("gbnf", 'root ::= "left" | "right"'), {"left", "right"}),
    ],
)
def test_other_kinds_of_constraints(wild, constraint, allowed):
    reply = run(wild, generate(constraint=constraint, sampling=Sampling(temperature=2.0, seed=3), max_tokens=50))
    assert reply.done.reason == "stop"
    if allowed is None:
        assert len(reply.text) == 3
        assert reply.text.isdigit()
    else:
        assert reply.text in allowed


def test_what_a_grammar_forces_is_guessed_and_right(wild):
    reply = run(wild, generate(constraint=Constraint("choice", choices=("the only possible answer",)), max_tokens=50))
    assert reply.text == "the only possible answer"
    done = reply.done
    # All but those whose tokens the model cut in another way than its tokenizer does.
    assert done.drafted_tokens >= done.accepted_tokens > 10


def test_constrained_and_free_answers_run_side_by_side(wild):
    schema = submit(wild, generate(constraint=Constraint("json_schema", SCHEMA), max_tokens=300))
    free = submit(wild, generate("hello", max_tokens=20, ignore_eos=True))
    while wild.has_work():
        wild.step()
    assert json.loads(schema.text)
    assert free.done.completion_tokens == 20


def test_min_tokens_that_the_constraint_does_not_allow(wild):
    call = generate(constraint=Constraint("regex", "a?"), min_tokens=10, max_tokens=20)
    reply = run(wild, call)
    # Complete is complete: a grammar that allows nothing more ends the answer.
    assert reply.text in {"", "a"} or reply.error.reason == "CONSTRAINT_CONFLICT"


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        (Constraint("json_schema", '{"type": "object", "required": ["a"], "properties": {"a": false}}'), None),
        (Constraint("json_schema", '{"type": "integer", "minimum": 5, "maximum": 3}'), None),
        (Constraint("json_schema", '{"items":' * 10_000 + "{}" + "}" * 10_000), None),
        (Constraint("json_schema", "no json"), None),
        (Constraint("json_schema", '{"type": "wish"}'), None),
        (Constraint("regex", "(" * 10_000 + ")" * 10_000), None),
        (Constraint("regex", "(a{1000}){1000}{1000}"), None),
        (Constraint("regex", "["), None),
        (Constraint("lark", "begin: 1"), None),
        (Constraint("gbnf", "root ::= other"), None),
        (Constraint("choice"), None),
        (Constraint("json_schema", " " * 300_000), None),
    ],
)  # fmt: skip
def test_a_constraint_that_cannot_be_is_refused_before_anything_runs(wild, constraint, reason):
    with pytest.raises(InvalidArgument):
        submit(wild, generate(constraint=constraint))
    assert not wild.has_work()


# --- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("choice", "name"), [("required", ""), ("named", "weather")])
def test_a_tool_call_that_must_come_comes_and_validates(wild, seed, choice, name):
    call = GenerateCall(
        messages=(ChatMessage("user", "How is it in Bern?"),),
        sampling=Sampling(temperature=1.5, seed=seed),
        tools=(WEATHER,),
        tool_choice=choice,
        tool_name=name,
        parallel_tool_calls=False,
        max_tokens=400,
    )
    reply = run(wild, call)
    assert reply.done.reason == "tool_calls"
    (made,) = [tool for piece in reply.pieces for tool in piece.tool_calls]
    assert made.name == "weather"
    assert json.loads(made.arguments)["city"] in {"Bern", "Rome"}
    assert reply.text.strip() == ""


def test_tool_arguments_of_a_megabyte_in_a_conversation(wild):
    from appliance.calls import ToolCall

    huge = ToolCall("call_1", "weather", json.dumps({"city": "x" * 1024 * 1024}))
    messages = (ChatMessage("user", "hi"), ChatMessage("assistant", "", (huge,)), ChatMessage("tool", "ok"))
    with pytest.raises(InvalidArgument, match="1,048,"):
        submit(wild, GenerateCall(messages=messages, tools=(WEATHER,)))


# --- bad values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "n is 0, allowed: 1 to 16"),
        ({"n": 17}, "n is 17"),
        ({"min_tokens": -1}, "min_tokens is -1"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens is 5, allowed: 0 to max_tokens"),
        ({"stop_token_ids": (VOCAB,)}, f"stop_token_ids has the token id {VOCAB}, this model's are 0 to {VOCAB - 1}"),
        ({"stop_token_ids": (-1,)}, "stop_token_ids has the token id -1"),
        ({"stop_token_ids": (1,) * 65}, "65 stop_token_ids, at most 64 are allowed"),
        ({"logit_bias": ((VOCAB, 1.0),)}, f"logit_bias has the token id {VOCAB}"),
        ({"logit_bias": ((-5, 1.0),)}, "logit_bias has the token id -5"),
        ({"logit_bias": ((1, 101.0),)}, "logit_bias of token 1 is 101, allowed: -100 to 100"),
        ({"logit_bias": ((1, float("nan")),)}, "logit_bias of token 1 is nan"),
        ({"logit_bias": tuple((i % VOCAB, 0.0) for i in range(1025))}, "logit_bias of 1,025 tokens, at most 1024"),
        ({"adapter": "poet"}, "poet"),
    ],
)
def test_bad_options_are_refused_with_what_is_allowed(scripted, options, words):
    with pytest.raises(InvalidArgument, match=words):
        submit(scripted, generate(**options))
    assert not scripted.has_work()


def test_the_largest_stop_list_of_token_ids(scripted):
    assert run(scripted, generate(stop_token_ids=(IM_END,) * 64)).text == "bcdef"
