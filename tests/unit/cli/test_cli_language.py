"""What an answer must look like, tools, thoughts, vectors and scores: the command line's way to each."""

import json

import grpc
import pytest
from terminal import Typed

from appliance.cli.exit_codes import ExitCode
from appliance.pb.appliance.v1 import generation_pb2 as pb

TOOLS = [
    {"name": "weather", "description": "Of a town.", "parameters": {"type": "object", "properties": {"town": {}}}},
    {"type": "function", "function": {"name": "time"}},
]


@pytest.fixture
def world(daemon):
    daemon.world.add("assistant", "1.0.0", kind="language", chats=True)
    return daemon.world


def request_of(world):
    (request,) = world.requests
    return request


@pytest.fixture
def file(tmp_path):
    def file(content: str | bytes, name: str = "file"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return file


# --- constraints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "content", "expected"),
    [
        ("--schema", '{"type": "object"}', pb.Constraint(json_schema='{"type": "object"}')),
        ("--grammar", 'root ::= "x"', pb.Constraint(gbnf='root ::= "x"')),
        ("--grammar", 'start: "x"', pb.Constraint(lark='start: "x"')),
    ],
)
def test_a_form_in_a_file(ask, world, file, option, content, expected):
    assert ask("chat", "assistant", "Why?", option, file(content)).code == 0
    assert request_of(world).options.constraint == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--regex", "a|b"], pb.Constraint(regex="a|b")),
        (["--choice", "yes", "--choice", "no"], pb.Constraint(choices=pb.Choices(texts=["yes", "no"]))),
    ],
)
def test_a_form_as_argument(ask, world, arguments, expected):
    assert ask("chat", "assistant", "Why?", *arguments).code == 0
    assert request_of(world).options.constraint == expected


def test_no_form_is_no_constraint(ask, world):
    assert ask("chat", "assistant", "Why?", "--adapter", "legal", "--priority", "3").code == 0
    options = request_of(world).options
    assert (options.HasField("constraint"), options.adapter, options.priority) == (False, "legal", 3)


def test_two_forms_are_one_too_many(ask, world):
    done = ask("chat", "assistant", "Why?", "--regex", "a", "--choice", "b")
    assert (done.code, world.requests) == (ExitCode.USAGE, [])
    assert "--regex and --choice: an answer can have only one of them" in done.err


@pytest.mark.parametrize("option", ["--schema", "--grammar", "--tools"])
@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot read"), (b"\xff", "is not UTF-8"), (b" " * (4 * 1024 * 1024 + 1), "is larger than")],
)
def test_files_that_cannot_be_used(ask, world, tmp_path, file, option, content, words):
    path = tmp_path / "none" if content is None else file(content)
    done = ask("chat", "assistant", "Why?", option, path)
    assert (done.code, world.requests) == (ExitCode.INVALID_INPUT, [])
    assert words in done.err


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--schema", "{", "is not JSON: Expecting property name"),
        ("--schema", "[" * 100_000, "is not JSON"),
        ("--tools", "{}", "does not hold a JSON list of tools"),
        ("--tools", '[{"nome": "x"}]', "tool 0 in"),
        ("--tools", '[{"name": "x"}, 3]', "tool 1 in"),
        ("--tools", '[{"name": "x", "parameters": "none"}]', '"parameters" a JSON Schema'),
        ("--tools", '[{"name": "x", "description": 7}]', '"description" must be text'),
    ],
)
def test_files_with_the_wrong_things_in_them(ask, world, file, option, content, words):
    done = ask("chat", "assistant", "Why?", option, file(content))
    assert (done.code, world.requests) == (ExitCode.INVALID_INPUT, [])
    assert words in done.err


# --- tools and thoughts ----------------------------------------------------------------------------------------------


@pytest.fixture
def tools(world, file):
    world.tool_calls = [
        pb.ToolCall(id="1", name="weather", arguments_json='{"town": "Zürich"}'),
        pb.ToolCall(id="2", name="time", arguments_json="{}"),
    ]
    return file(json.dumps(TOOLS), "tools.json")


def test_tool_calls_are_lines_of_json(ask, world, tools):
    done = ask("chat", "assistant", "Why?", "--tools", tools, "--tool-choice", "weather")
    first, *lines = done.out.splitlines()
    assert first == "The sky is blü."
    assert [json.loads(line) for line in lines] == [
        {"id": "1", "name": "weather", "arguments": {"town": "Zürich"}},
        {"id": "2", "name": "time", "arguments": {}},
    ]
    request = request_of(world)
    assert [(t.name, t.description) for t in request.tools] == [("weather", "Of a town."), ("time", "")]
    assert json.loads(request.tools[0].parameters_json) == TOOLS[0]["parameters"]
    assert request.tools[1].parameters_json == ""
    assert (request.tool_choice.mode, request.tool_choice.name) == (pb.ToolChoice.NAMED, "weather")


def test_tool_calls_alone_have_no_empty_line_before_them(ask, world, tools):
    world.words = []
    done = ask("chat", "assistant", "Why?", "--tools", tools, "--tool-choice", "required")
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ["1", "2"]
    assert request_of(world).tool_choice.mode == pb.ToolChoice.REQUIRED


def test_tool_calls_in_json(ask, world, tools):
    world.thoughts = ["Hm"]
    document = ask("chat", "assistant", "Why?", "--tools", tools, "--json").json
    assert document["tool_calls"][0] == {"id": "1", "name": "weather", "arguments": {"town": "Zürich"}}
    assert (document["reasoning"], document["finished"]["reason"]) == ("Hm", "TOOL_CALLS")


def test_thoughts_are_beside_the_answer(ask, world):
    world.thoughts = ["Let me ", "see.\x1b[2J"]
    done = ask("chat", "assistant", "Why?")
    assert done.out == "The sky is blü.\n"
    assert done.err == "Let me see.[2J\n\n"


def test_thoughts_are_dim_on_a_terminal_and_go_back_to_the_model(daemon, world):
    world.thoughts = ["Hm."]
    with Typed("chat", "assistant", "--socket", daemon.socket, TERM="xterm") as person:
        person.expect("> ")
        person.type("one\n")
        person.expect("\x1b[2mHm.\x1b[22m")
        person.expect("The sky is blü.")
        person.expect("tokens/s")
        person.expect("> ")
        person.type("two\n")
        person.expect("tokens/s")
        person.expect("> ")
        person.type("/quit\n")
        assert person.leaves() == 0
    assert [(m.role, m.content, m.reasoning) for m in world.requests[1].messages] == [
        ("user", "one", ""),
        ("assistant", "The sky is blü.", "Hm."),
        ("user", "two", ""),
    ]


def test_colour_can_be_switched_off(daemon, world):
    world.thoughts = ["Hm."]
    with Typed("chat", "assistant", "hi", "--socket", daemon.socket, TERM="xterm", NO_COLOR="1") as person:
        assert person.leaves() == 0
    assert "Hm." in person.seen
    assert "\x1b[2m" not in person.seen


# --- vectors and scores ----------------------------------------------------------------------------------------------


def test_embed(ask, world):
    done = ask("embed", "assistant", "a red house", "x" * 90)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    _, _, first, second = done.out.splitlines()
    assert first.split("  ")[0] == "a red house"
    assert first.rstrip().endswith("5  [1.1000, -0.0200, 0.0000, 1.0000, ...]")
    assert "xxx..." in second
    assert request_of(world).raw is False


def test_embed_json(ask, world):
    assert ask("embed", "assistant", "abc", "--raw", "--json").json == {
        "model": "assistant",
        "version": "1.0.0",
        "embeddings": [[0.3, -0.02, 0, 1, 0.5]],
        "usage": {"prompt_tokens": 1},
    }
    assert request_of(world).raw is True


def test_many_texts_are_several_requests(ask, world, file):
    lines = [f"text {i}" for i in range(600)]
    document = ask("embed", "assistant", "--file", file("\n".join(lines)), "--json").json
    assert [len(request.texts) for request in world.requests] == [256, 256, 88]
    assert [text for request in world.requests for text in request.texts] == lines
    assert (len(document["embeddings"]), document["usage"]["prompt_tokens"]) == (600, 600)


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_texts_on_standard_input(ask, world, arguments):
    stdin = "one\r\n\n  \nzwei drei\u2028vier\n".encode()
    assert ask("embed", "assistant", *arguments, stdin=stdin).code == 0
    assert list(request_of(world).texts) == ["one", "zwei drei\u2028vier"]


def test_rerank(ask, world):
    done = ask("rerank", "assistant", "What?", "ab", "abcd", "abc")
    assert [line.split() for line in done.out.splitlines()[2:]] == [
        ["0.4000", "2", "abcd"],
        ["0.3000", "3", "abc"],
        ["0.2000", "1", "ab"],
    ]
    request = request_of(world)
    assert (request.query, list(request.documents)) == ("What?", ["ab", "abcd", "abc"])


def test_rerank_json_keeps_the_order(ask, world, file):
    document = ask("rerank", "assistant", "What?", "--file", file("ab\nabcd\n"), "--json").json
    assert document["scores"] == [0.2, 0.4]
    assert document["usage"] == {"prompt_tokens": 9}


@pytest.mark.parametrize("command", [("embed", "assistant"), ("rerank", "assistant", "What?")])
@pytest.mark.parametrize(
    ("more", "stdin", "code", "words"),
    [
        ([], b"", ExitCode.USAGE, "came: give some"),
        (["-"], b"\n \n", ExitCode.USAGE, "came: give some"),
        (["-"], b"\xff", ExitCode.INVALID_INPUT, "standard input is not UTF-8"),
        (["a", "--file", "x"], b"", ExitCode.USAGE, "not both"),
        (["--file", "/nowhere"], b"", ExitCode.INVALID_INPUT, "cannot read /nowhere"),
    ],
)
def test_texts_that_cannot_be_used(ask, world, command, more, stdin, code, words):
    done = ask(*command, *more, stdin=stdin)
    assert (done.code, world.requests) == (code, [])
    assert words in done.err


@pytest.mark.parametrize("command", [("embed", "assistant", "x"), ("rerank", "assistant", "What?", "x")])
def test_models_that_cannot(ask, world, command):
    world.fail_with = (grpc.StatusCode.UNIMPLEMENTED, "model 'assistant' makes no vectors")
    done = ask(*command, "--json")
    assert done.code == ExitCode.INVALID_INPUT
    assert "makes no vectors" in done.json["error"]["message"]


@pytest.mark.parametrize("command", [("embed", "nobody", "x"), ("rerank", "nobody", "What?", "x")])
def test_unknown_models(ask, world, command):
    assert ask(*command).code == ExitCode.NOT_FOUND
