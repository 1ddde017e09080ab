from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from serve_rig import Rig

from appliance.calls import (
    ChatMessage,
    Constraint,
    EmbedCall,
    GenerateCall,
    RerankCall,
    Sampling,
    TokenizeCall,
    Tool,
    ToolCall,
)
from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc as pb_grpc

PATIENCE = 20


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(threads=32) as rig:
        yield rig


@pytest.fixture
def stub(rig: Rig) -> pb_grpc.GenerationStub:
    return pb_grpc.GenerationStub(rig.channel)


def chat(*turns: tuple[str, str], **options: Any) -> pb.ChatRequest:
    messages = [pb.ChatMessage(role=role, content=content) for role, content in turns]
    return pb.ChatRequest(model="text", messages=messages, options=pb.Options(**options))


def test_chat(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    options = {
        "sampling": pb.Sampling(temperature=0, top_k=0, seed=7),
        "max_tokens": 9,
        "stop": ["x"],
        "logprobs": 2,
    }
    request = chat(("system", "be brief"), ("user", "a b"), **options)
    responses = list(stub.Chat(request, timeout=PATIENCE))
    assert [r.text for r in responses] == ["a", "b", ""]
    finished = responses[-1].finished
    assert (finished.reason, finished.usage.prompt_tokens, finished.usage.completion_tokens) == (pb.Finished.STOP, 5, 2)
    assert finished.seed == 42
    assert [r.version for r in responses] == ["1.0.0", "", "1.0.0"]
    call = rig.text.calls[-1]
    assert isinstance(call, GenerateCall)
    assert call.messages == (ChatMessage("system", "be brief"), ChatMessage("user", "a b"))
    assert (call.prompt, call.max_tokens, call.stop, call.logprobs) == (None, 9, ("x",), 2)
    # What was set is there, zero or not; what was not set is not.
    assert call.sampling == Sampling(temperature=0, top_k=0, seed=7)


def test_generate(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    responses = list(stub.Generate(pb.GenerateRequest(model="text", prompt="a b c"), timeout=PATIENCE))
    assert "".join(r.text for r in responses) == "abc"
    deadline = rig.text.calls[-1].deadline_ns
    assert rig.text.calls[-1] == GenerateCall(deadline_ns=deadline, prompt="a b c", client="ipv4:127.0.0.1")


def test_several_answers_to_one_prompt(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    request = pb.GenerateRequest(model="text", prompt="a b", options=pb.Options(n=3))
    responses = list(stub.Generate(request, timeout=PATIENCE))
    assert [(r.index, r.text) for r in responses if r.text] == [(i, w) for w in "ab" for i in range(3)]
    ends = [r for r in responses if r.HasField("finished")]
    assert [(r.index, r.finished.seed, r.version) for r in ends] == [(2, 44, ""), (1, 43, ""), (0, 42, "1.0.0")]
    assert responses[-1] is ends[-1]
    finished = ends[0].finished
    assert (finished.reused_tokens, finished.drafted_tokens, finished.accepted_tokens) == (4, 3, 2)


def test_every_option_arrives(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    options = pb.Options(
        n=2,
        constraint=pb.Constraint(choices=pb.Choices(texts=["yes", "no"])),
        min_tokens=3,
        ignore_eos=True,
        stop_token_ids=[5, 4],
        logit_bias={9: -1.5, 2: 100},
        adapter="legal",
        priority=7,
    )
    list(stub.Generate(pb.GenerateRequest(model="text", prompt="a", options=options), timeout=PATIENCE))
    call = rig.text.calls[-1]
    assert call == GenerateCall(
        call.deadline_ns,
        7,
        "a",
        client="ipv4:127.0.0.1",
        n=2,
        constraint=Constraint("choice", choices=("yes", "no")),
        min_tokens=3,
        ignore_eos=True,
        stop_token_ids=(5, 4),
        logit_bias=((2, 100.0), (9, -1.5)),
        adapter="legal",
    )


def test_who_comes_over_the_unix_socket_is_local(rig: Rig) -> None:
    stub = pb_grpc.GenerationStub(rig.admin)
    stub.Embed(pb.EmbedRequest(model="text", texts=["a"]), timeout=PATIENCE)
    assert rig.text.calls[-1].client == "local"


def test_tools(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    request = chat(("user", "look"))
    request.messages.add(
        role="assistant", reasoning="so", tool_calls=[pb.ToolCall(id="1", name="t", arguments_json="{}")]
    )
    request.messages.add(role="tool", content="42", tool_call_id="1", name="t")
    request.tools.add(name="t", description="d", parameters_json='{"type": "object"}')
    request.tool_choice.mode, request.tool_choice.name = pb.ToolChoice.NAMED, "t"
    request.single_tool_call = True
    thought, called, ended = stub.Chat(request, timeout=PATIENCE)
    assert (thought.reasoning, thought.text) == ("hm", "")
    assert list(called.tool_calls) == [pb.ToolCall(id="call_1", name="t", arguments_json='{"x": 1}')]
    assert ended.finished.reason == pb.Finished.TOOL_CALLS
    call = rig.text.calls[-1]
    assert isinstance(call, GenerateCall)
    assert call.messages == (
        ChatMessage("user", "look"),
        ChatMessage("assistant", "", (ToolCall("1", "t", "{}"),), reasoning="so"),
        ChatMessage("tool", "42", tool_call_id="1", name="t"),
    )
    assert call.tools == (Tool("t", "d", '{"type": "object"}'),)
    assert (call.tool_choice, call.tool_name, call.parallel_tool_calls) == ("named", "t", False)


def test_rerank(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    response = stub.Rerank(pb.RerankRequest(model="text", query="q", documents=["a", "bcd"]), timeout=PATIENCE)
    assert (list(response.scores), response.usage.prompt_tokens) == ([0.5, 1.5], 9)
    assert (response.model, response.version) == ("text", "1.0.0")
    call = rig.text.calls[-1]
    assert call == RerankCall(call.deadline_ns, 0, "q", ("a", "bcd"), "ipv4:127.0.0.1")


def test_embed(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    response = stub.Embed(pb.EmbedRequest(model="text", texts=["a", "b"]), timeout=PATIENCE)
    assert [list(e.values) for e in response.embeddings] == [[0.5, -1.0], [0.5, -1.0]]
    assert response.usage.prompt_tokens == 7
    call = rig.text.calls[-1]
    assert isinstance(call, EmbedCall)
    assert (call.texts, call.normalize, call.client) == (("a", "b"), True, "ipv4:127.0.0.1")


def test_tokenize(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    response = stub.Tokenize(pb.TokenizeRequest(model="text", text="ab", bare=True), timeout=PATIENCE)
    assert list(response.tokens) == [97, 98]
    call = rig.text.calls[-1]
    assert isinstance(call, TokenizeCall)
    assert (call.add_special, call.special) == (False, False)


BIG = "x" * (4 * 1024 * 1024 + 1)


@pytest.mark.parametrize(
    ("method", "request_", "code", "words"),
    [
        ("Chat", chat(), "INVALID_ARGUMENT", "0 messages came"),
        ("Chat", chat(*[("user", "")] * 4097), "INVALID_ARGUMENT", "4097 messages came"),
        ("Chat", chat(("robot", "x")), "INVALID_ARGUMENT", "message 0 has role 'robot'"),
        ("Chat", chat(("user", BIG)), "INVALID_ARGUMENT", "the conversation has 4194305 bytes"),
        ("Chat", chat(("user", "x"), max_tokens=-1), "INVALID_ARGUMENT", "max_tokens is -1"),
        ("Chat", chat(("user", "x"), logprobs=21), "INVALID_ARGUMENT", "logprobs is 21"),
        ("Chat", chat(("user", "x"), stop=["x"] * 17), "INVALID_ARGUMENT", "17 stop strings"),
        ("Chat", chat(("user", "x"), stop=["x" * 257]), "INVALID_ARGUMENT", "a stop string has 257 bytes"),
        ("Chat", chat(("user", "fail")), "INVALID_ARGUMENT", "the prompt has 200 tokens"),
        ("Chat", chat(("user", "die")), "UNAVAILABLE", "died while"),
        ("Generate", pb.GenerateRequest(model="text", prompt=BIG), "INVALID_ARGUMENT", "the prompt has 4194305"),
        ("Generate", pb.GenerateRequest(model="echo", prompt="x"), "UNIMPLEMENTED", "is not a language model"),
        ("Generate", pb.GenerateRequest(model="nope", prompt="x"), "NOT_FOUND", "unknown model"),
        ("Embed", pb.EmbedRequest(model="text"), "INVALID_ARGUMENT", "0 texts came"),
        ("Embed", pb.EmbedRequest(model="text", texts=["x"] * 257), "INVALID_ARGUMENT", "257 texts came"),
        ("Embed", pb.EmbedRequest(model="echo", texts=["x"]), "UNIMPLEMENTED", "is not a language model"),
        ("Chat", chat(("user", "x"), n=17), "INVALID_ARGUMENT", "n is 17"),
        ("Chat", chat(("user", "x"), constraint=pb.Constraint()), "INVALID_ARGUMENT", "no form that this server knows"),
        ("Chat", chat(("user", "x"), constraint=pb.Constraint(json_object=False)), "INVALID_ARGUMENT", "no form"),
        ("Rerank", pb.RerankRequest(model="text", query="q"), "INVALID_ARGUMENT", "0 documents came"),
        ("Rerank", pb.RerankRequest(model="text", query=BIG, documents=["x"]), "INVALID_ARGUMENT", "documents have"),
        ("Rerank", pb.RerankRequest(model="echo", query="q", documents=["x"]), "UNIMPLEMENTED", "is not a language"),
        ("Tokenize", pb.TokenizeRequest(model="text", text=BIG), "INVALID_ARGUMENT", "the text has 4194305"),
    ],
)
def test_refused(stub: pb_grpc.GenerationStub, method: str, request_: Any, code: str, words: str) -> None:
    call = getattr(stub, method)
    with pytest.raises(grpc.RpcError) as caught:
        # A stream fails when it is read.
        list(call(request_, timeout=PATIENCE))
    assert caught.value.code().name == code
    assert words in caught.value.details()


def test_cancelling_a_chat_ends_the_engines_work(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    rig.text.cancelled.clear()
    responses = stub.Chat(chat(("user", "one wait")), timeout=PATIENCE)
    assert next(responses).text == "one"
    responses.cancel()
    assert rig.text.cancelled.wait(PATIENCE)
