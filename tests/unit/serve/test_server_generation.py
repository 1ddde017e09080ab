from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from serve_rig import Rig

from appliance.calls import ChatMessage, EmbedCall, GenerateCall, Sampling, TokenizeCall
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
    assert rig.text.calls[-1] == GenerateCall(deadline_ns=rig.text.calls[-1].deadline_ns, prompt="a b c")


def test_embed(rig: Rig, stub: pb_grpc.GenerationStub) -> None:
    response = stub.Embed(pb.EmbedRequest(model="text", texts=["a", "b"]), timeout=PATIENCE)
    assert [list(e.values) for e in response.embeddings] == [[0.5, -1.0], [0.5, -1.0]]
    assert response.usage.prompt_tokens == 7
    call = rig.text.calls[-1]
    assert isinstance(call, EmbedCall)
    assert (call.texts, call.normalize) == (("a", "b"), True)


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
