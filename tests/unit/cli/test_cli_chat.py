"""`appliance chat`: one-shot, and a person at a real terminal."""

import grpc
import pytest
from terminal import Typed

from appliance.cli.exit_codes import ExitCode


@pytest.fixture
def world(daemon):
    daemon.world.add("assistant", "1.0.0", kind="language", chats=True)
    return daemon.world


def roles(request):
    return [(m.role, m.content) for m in request.messages]


def test_one_shot(ask, world):
    done = ask("chat", "assistant", "Why?")
    assert (done.code, done.out, done.err) == (0, "The sky is blü.\n", "")
    (request,) = world.requests
    assert roles(request) == [("user", "Why?")]
    assert not request.options.sampling.HasField("temperature")


def test_one_shot_json(ask, world):
    document = ask("chat", "assistant", "Why?", "--json").json
    assert document["text"] == "The sky is blü."
    assert document["model"] == "assistant"
    assert document["version"] == "1.0.0"
    assert document["finished"]["reason"] == "STOP"
    assert document["finished"]["usage"] == {"prompt_tokens": 7, "completion_tokens": 5}


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_message_on_standard_input(ask, world, arguments):
    assert ask("chat", "assistant", *arguments, stdin="Wär's?\n".encode()).code == 0
    assert roles(world.requests[0]) == [("user", "Wär's?\n")]


def test_options_arrive(ask, world):
    options = [
        "--temperature",
        "0",
        "--top-k",
        "7",
        "--top-p",
        "0.5",
        "--min-p",
        "0.25",
        "--repeat-penalty",
        "1.5",
        "--seed",
        "4294967295",
    ]
    more = ["--max-tokens", "9", "--stop", "END", "--stop", "STOP", "--system", "Briefly.", "--version", "1.0.0"]
    assert ask("chat", "assistant", "Why?", *options, *more).code == 0
    (request,) = world.requests
    sampling = request.options.sampling
    assert sampling.HasField("temperature")
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0, 7, 0.5, 0.25)
    assert (sampling.repeat_penalty, sampling.seed) == (1.5, 2**32 - 1)
    assert (request.options.max_tokens, list(request.options.stop)) == (9, ["END", "STOP"])
    assert roles(request) == [("system", "Briefly."), ("user", "Why?")]
    assert request.version == "1.0.0"


@pytest.mark.parametrize(
    ("stdin", "words"),
    [(b"", "is empty"), (b" \n", "is empty"), (b"\xff", "not UTF-8"), (b"x" * (4 << 20 | 1), "larger")],
)
def test_bad_message(ask, world, stdin, words):
    done = ask("chat", "assistant", "-", stdin=stdin)
    assert (done.code, words in done.err) == (ExitCode.INVALID_INPUT, True)
    assert world.requests == []


def test_failure(ask, world):
    world.fail_with = (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'x'")
    done = ask("chat", "x", "hi")
    assert (done.code, done.err) == (ExitCode.NOT_FOUND, "appliance: Request for unknown model: 'x'\n")


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_answer_that_breaks_off(ask, world, more):
    world.cut_off = True
    done = ask("chat", "assistant", "hi", *more)
    assert (done.code, "broke off" in done.err) == (ExitCode.FAILED, True)


def test_terminal_codes_of_a_model_are_not_obeyed(ask, world):
    world.words = ["a\x1b]0;title\x07b\r\n", "\u202egnp.exe\x9b2J\tend"]
    assert ask("chat", "assistant", "hi").out == "a]0;titleb\ngnp.exe2J\tend\n"
    assert ask("chat", "assistant", "hi", "--json").json["text"] == "".join(world.words)


def test_conversation(daemon, world):
    with Typed("chat", "assistant", "--system", "Briefly.", "--socket", daemon.socket) as person:
        person.expect("Talking to assistant")
        person.expect("> ")
        person.type("Why?\n")
        person.expect("The sky is blü.")
        person.expect("(5 tokens, 50.0 tokens/s)")
        person.expect("> ")
        person.type("And then?\n")
        person.expect("tokens/s")
        person.expect("> ")
        person.type("/help\n")
        person.expect("/reset forgets")
        person.expect("> ")
        person.type("\n")
        person.expect("> ")
        person.type("/reset\n")
        person.expect("forgotten")
        person.expect("> ")
        person.type("Again?\n")
        person.expect("tokens/s")
        person.expect("> ")
        person.type("/quit\n")
        assert person.leaves() == 0
    first, second, third = map(roles, world.requests)
    assert first == [("system", "Briefly."), ("user", "Why?")]
    assert second == [*first, ("assistant", "The sky is blü."), ("user", "And then?")]
    assert third == [("system", "Briefly."), ("user", "Again?")]


def test_ctrl_c_stops_the_answer_and_not_the_program(daemon, world):
    world.endless = True
    with Typed("chat", "assistant", "--socket", daemon.socket) as person:
        person.expect("> ")
        person.type("Go on\n")
        person.expect("more more")
        person.type("\x03")
        person.expect("(stopped)")
        assert world.cancelled.wait(10)
        world.endless = False
        person.expect("> ")
        person.press_until("\x03", "/quit")
        person.expect("> ")
        person.type("Enough?\n")
        person.expect("tokens/s")
        person.expect("> ")
        person.type("\x04")
        assert person.leaves() == 0
    stopped = roles(world.requests[1])
    assert stopped[0] == ("user", "Go on")
    assert stopped[1][0] == "assistant"
    assert stopped[1][1].startswith("The sky is blü.more more")
    assert stopped[2] == ("user", "Enough?")


def test_a_refused_question_is_forgotten_and_the_conversation_goes_on(daemon, world):
    world.fail_with = (grpc.StatusCode.INVALID_ARGUMENT, "9000 tokens do not fit into 8192")
    with Typed("chat", "assistant", "--socket", daemon.socket) as person:
        person.expect("> ")
        person.type("long\n")
        person.expect("9000 tokens do not fit into 8192")
        person.expect("> ")
        world.fail_with = None
        person.type("short\n")
        person.expect("tokens/s")
        person.expect("> ")
        person.type("/quit\n")
        assert person.leaves() == 0
    assert roles(world.requests[1]) == [("user", "short")]


def test_unknown_model_ends_the_conversation(daemon, world):
    world.fail_with = (grpc.StatusCode.NOT_FOUND, "Request for unknown model")
    with Typed("chat", "nobody", "--socket", daemon.socket) as person:
        person.expect("> ")
        person.type("hello\n")
        person.expect("appliance: Request for unknown model")
        assert person.leaves() == ExitCode.NOT_FOUND


def test_ctrl_c_in_one_shot(daemon, world):
    world.endless = True
    with Typed("chat", "assistant", "hi", "--socket", daemon.socket) as person:
        person.expect("more more")
        person.type("\x03")
        assert person.leaves() == ExitCode.INTERRUPTED
    assert world.cancelled.wait(10)
    assert "Traceback" not in person.seen


def test_json_needs_a_question(daemon, world):
    with Typed("chat", "assistant", "--json", "--socket", daemon.socket) as person:
        person.expect("--json is for one question")
        assert person.leaves() == ExitCode.USAGE
