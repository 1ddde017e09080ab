"""What generations can be asked for, from a client's call to the engine and back: over gRPC and by the command line."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from daemon_process import DEADLINE, Daemon
from rpc_failures import fails

from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WEATHER = pb.Tool(
    name="weather",
    description="The weather of a town.",
    parameters_json='{"type": "object", "properties": {"town": {"enum": ["Bern", "Chur"]}}, "required": ["town"], '
    '"additionalProperties": false}',
)
SCHEMA = (
    '{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false}'
)


class Asker:
    """A client that samples with a temperature of 1 and seed 5 unless told otherwise."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = generation_pb2_grpc.GenerationStub(channel)

    def generate(self, model: str, prompt: str, **options: Any) -> list[pb.GenerateResponse]:
        request = pb.GenerateRequest(model=model, prompt=prompt, options=_options(options))
        return list(self.stub.Generate(request, timeout=DEADLINE))

    def chat(self, model: str, *messages: pb.ChatMessage, **more: Any) -> list[pb.GenerateResponse]:
        options = _options(more.pop("options", {}))
        return list(
            self.stub.Chat(pb.ChatRequest(model=model, messages=messages, options=options, **more), timeout=DEADLINE)
        )


def _options(given: dict[str, Any]) -> pb.Options:
    given.setdefault("sampling", {"temperature": 1, "seed": 5})
    given.setdefault("max_tokens", 64)
    return pb.Options(**given)


def text_of(answers: list[pb.GenerateResponse], index: int = 0) -> str:
    return "".join(answer.text for answer in answers if answer.index == index)


def user(content: str) -> pb.ChatMessage:
    return pb.ChatMessage(role="user", content=content)


@pytest.fixture(scope="module")
def llm(client_daemon: Daemon) -> Iterator[Asker]:
    with grpc.insecure_channel(client_daemon.address) as channel:
        yield Asker(channel)


# --- constraints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "pattern"),
    [
        (pb.Constraint(json_schema=SCHEMA), r'\s*\{\s*"ok"\s*:\s*(true|false)\s*\}\s*'),
        (pb.Constraint(regex="[ab]{3}-[0-9]{2}"), "[ab]{3}-[0-9]{2}"),
        (pb.Constraint(lark='start: "yes" | "no"'), "yes|no"),
        (pb.Constraint(gbnf='root ::= "left" | "right"'), "left|right"),
        (pb.Constraint(choices=pb.Choices(texts=["red", "green", "reddish"])), "red|green|reddish"),
    ],
)
def test_an_answer_has_the_form_that_was_asked_for(llm: Asker, constraint: pb.Constraint, pattern: str) -> None:
    """The model says bytes at random, so nothing else would give it a form."""
    for seed in range(3):
        sampling = {"temperature": 1, "seed": seed}
        answers = llm.generate("talk", "x", constraint=constraint, sampling=sampling)
        assert re.fullmatch(pattern, text_of(answers)), text_of(answers)
        assert answers[-1].finished.reason == pb.Finished.STOP


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (pb.Constraint(), "no form"),
        (pb.Constraint(json_schema="{"), "."),
        (pb.Constraint(json_schema='{"type": "nothing"}'), "."),
        (pb.Constraint(json_schema="[" * 10_000), "."),
        (pb.Constraint(json_schema='{"allOf": [' * 10_000 + "{}" + "]}" * 10_000), "."),
        (pb.Constraint(regex="("), "."),
        (pb.Constraint(regex="((a{1000}){1000}){1000}"), "."),
        (pb.Constraint(lark="start: nowhere"), "."),
        (pb.Constraint(gbnf="root ::= ("), "."),
        (pb.Constraint(choices=pb.Choices()), "0 choices came"),
        (pb.Constraint(choices=pb.Choices(texts=["x"] * 1025)), "1025 choices came"),
        (pb.Constraint(regex="x" * 262_145), "262145 bytes"),
    ],
)
def test_what_has_no_form_is_refused_and_never_answered(llm: Asker, constraint: pb.Constraint, words: str) -> None:
    with fails("INVALID_ARGUMENT", words):
        llm.generate("talk", "x", constraint=constraint)
    assert text_of(llm.generate("says", "h", sampling={"temperature": 0})) == "elo wr\u00fcd."


# --- several answers, and how they end -------------------------------------------------------------------------------


def test_several_answers_share_a_prompt(llm: Asker) -> None:
    sampling = {"temperature": 2, "seed": 40}
    together = llm.generate("talk", "hello", n=3, max_tokens=8, sampling=sampling)
    ends = {answer.index: answer.finished for answer in together if answer.HasField("finished")}
    assert {index: finished.seed for index, finished in ends.items()} == {0: 40, 1: 41, 2: 42}
    assert len({text_of(together, index) for index in range(3)}) > 1
    assert {finished.usage.prompt_tokens for finished in ends.values()} == {3}
    assert together[-1].HasField("finished")
    assert together[-1].version == "1.0.0"


def test_an_answer_goes_on_to_its_least_length(llm: Asker) -> None:
    greedy = {"temperature": 0}
    assert llm.generate("says", "h", sampling=greedy)[-1].finished.usage.completion_tokens == 10
    longer = llm.generate("says", "h", sampling=greedy, min_tokens=15)[-1].finished
    assert longer.usage.completion_tokens >= 15
    whole = llm.generate("says", "h", sampling=greedy, ignore_eos=True, max_tokens=20)[-1].finished
    assert (whole.usage.completion_tokens, whole.reason) == (20, pb.Finished.LENGTH)


def test_stop_tokens_end_an_answer_and_are_not_part_of_it(llm: Asker) -> None:
    answers = llm.generate("endless", "a", sampling={"temperature": 0}, stop_token_ids=[ord("f"), ord("d")])
    assert text_of(answers) == "bc"
    assert (answers[-1].finished.reason, answers[-1].finished.stop_string) == (pb.Finished.STOP, "")


def test_biases_add_to_logits(llm: Asker) -> None:
    forced = llm.generate("talk", "x", logit_bias={ord("q"): 100}, max_tokens=4)
    assert text_of(forced) == "qqqq"
    kept_out = llm.generate("endless", "a", sampling={"temperature": 0}, logit_bias={ord("b"): -100}, max_tokens=1)
    assert text_of(kept_out) != "b"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 17}, "n is 17"),
        ({"n": -1}, "n is -1"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens is 9, more than max_tokens"),
        ({"min_tokens": -1}, "min_tokens is -1"),
        ({"stop": ["x"] * 1000}, "1000 stop strings came"),
        ({"stop_token_ids": [1] * 65}, "65 stop token ids"),
        ({"stop_token_ids": [-1]}, "-1"),
        ({"stop_token_ids": [2**30]}, "1073741824"),
        ({"logit_bias": {2**30: 1}}, "1073741824"),
        ({"logit_bias": {7: 101}}, "token 7 is 101"),
        ({"logit_bias": {7: float("nan")}}, "token 7 is nan"),
        ({"adapter": "unknown"}, "unknown"),
        ({"adapter": "a" * 97}, "97 characters"),
    ],
)
def test_bad_options(llm: Asker, options: dict[str, Any], words: str) -> None:
    with fails("INVALID_ARGUMENT|NOT_FOUND", words):
        llm.generate("talk", "x", **options)
    assert text_of(llm.generate("says", "h", sampling={"temperature": 0})) == "elo wr\u00fcd."


def test_ranks_are_not_made_up(llm: Asker) -> None:
    with fails("UNIMPLEMENTED", "."):
        llm.stub.Rerank(pb.RerankRequest(model="talk", query="q", documents=["a"]), timeout=DEADLINE)
    with fails("UNIMPLEMENTED", "'pair' is not a language model"):
        llm.stub.Rerank(pb.RerankRequest(model="pair", query="q", documents=["a"]), timeout=DEADLINE)
    with fails("INVALID_ARGUMENT", "257 documents came"):
        llm.stub.Rerank(pb.RerankRequest(model="talk", query="q", documents=["a"] * 257), timeout=DEADLINE)


# --- tools -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choice", [pb.ToolChoice(mode=pb.ToolChoice.REQUIRED), pb.ToolChoice(mode=pb.ToolChoice.NAMED, name="weather")]
)
def test_a_tool_that_must_be_called_is_called_well(llm: Asker, choice: pb.ToolChoice) -> None:
    """The model says bytes at random: the grammar alone makes calls of them."""
    # A call is some 80 bytes, each a token of its own.
    options = {"max_tokens": 400}
    answers = llm.chat(
        "endless", user("hi"), tools=[WEATHER], tool_choice=choice, single_tool_call=True, options=options
    )
    (called,) = [call for answer in answers for call in answer.tool_calls]
    assert called.name == "weather"
    assert called.id
    assert json.loads(called.arguments_json)["town"] in ("Bern", "Chur")
    assert answers[-1].finished.reason == pb.Finished.TOOL_CALLS
    assert text_of(answers) == ""


def test_no_tool_is_called_against_ones_will(llm: Asker) -> None:
    none = pb.ToolChoice(mode=pb.ToolChoice.NONE)
    answers = llm.chat("endless", user("a"), tools=[WEATHER], tool_choice=none, options={"max_tokens": 4})
    assert not any(answer.tool_calls for answer in answers)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tools": [WEATHER, WEATHER]}, "two tools with the name 'weather'"),
        ({"tools": [pb.Tool(name="no no")]}, "tool 0 has the name 'no no'"),
        ({"tools": [pb.Tool(name="a", parameters_json="{")]}, "."),
        ({"tools": [pb.Tool(name="a", parameters_json='"x"')]}, "."),
        ({"tools": [pb.Tool(name=f"t{i}") for i in range(129)]}, "129 tools came"),
        ({"tool_choice": pb.ToolChoice(mode=pb.ToolChoice.REQUIRED)}, "no tools came"),
        ({"tools": [WEATHER], "tool_choice": pb.ToolChoice(mode=pb.ToolChoice.NAMED, name="x")}, "names 'x'"),
    ],
)
def test_bad_tools(llm: Asker, more: dict[str, Any], words: str) -> None:
    with fails("INVALID_ARGUMENT", words):
        llm.chat("talk", user("hi"), **more)


def test_bad_tool_messages(llm: Asker) -> None:
    huge = pb.ToolCall(name="weather", arguments_json='{"town": "' + "x" * 2**20 + '"}')
    with fails("INVALID_ARGUMENT", "arguments of a tool call of message 1 have 10485\\d+ bytes"):
        llm.chat("talk", user("hi"), pb.ChatMessage(role="assistant", tool_calls=[huge]), tools=[WEATHER])
    with fails("INVALID_ARGUMENT", "message 0 has tool_calls, which only messages of role 'assistant'"):
        llm.chat("talk", pb.ChatMessage(role="user", tool_calls=[pb.ToolCall(name="x")]))


# --- by the command line, and what operators see ---------------------------------------------------------------------


def test_the_command_line(client_daemon: Daemon, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text(SCHEMA)
    document = client_daemon.json("chat", "talk", "hi", "--schema", str(schema), "--seed", "1", "--max-tokens", "64")
    assert isinstance(json.loads(document["text"])["ok"], bool)
    assert client_daemon.cli("chat", "talk", "hi", "--choice", "yes", "--choice", "no").stdout in ("yes\n", "no\n")
    vectors = client_daemon.json("embed", "talk", "one", "two")["embeddings"]
    assert len(vectors) == 2
    assert vectors[0] != vectors[1]
    refused = client_daemon.cli("rerank", "talk", "q", "a", check=False)
    assert (refused.returncode, refused.stdout) == (6, "")


def test_operators_see_how_a_language_model_does(client_daemon: Daemon, llm: Asker) -> None:
    llm.generate("endless", "abcdefgh" * 8, max_tokens=4)

    def facts() -> dict[str, Any]:
        models = client_daemon.json("status")["models"]
        found: dict[str, Any] = next(m for m in models if m["name"] == "endless")["counters"]["language"]
        return found

    # The engine tells once a second.
    client_daemon.eventually(lambda: facts()["prefix_misses"] + facts()["prefix_hits"] > 0)
    assert facts()["kv_tokens"] > 0
    shown = client_daemon.cli("status").stdout
    assert "LANGUAGE MODEL" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_what_engines_keep_of_prompts_is_nobody_elses(client_daemon: Daemon) -> None:
    assert stat.S_IMODE((client_daemon.state / "cache").stat().st_mode) == 0o700
