"""Chat, Generate, Embed and Tokenize over appliance.v1, with models whose every token is known, and with SmolLM2."""

import json
import math
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from daemon_process import DEADLINE, Daemon
from rpc_failures import fails
from settled_counters import eventually_cancelled, settled_counters

from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc

LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Llm:
    """A client of one daemon's language models."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = generation_pb2_grpc.GenerationStub(channel)

    def generate(self, model: str, prompt: str, temperature: float = 0.0, **options: Any) -> list[pb.GenerateResponse]:
        sampling = pb.Sampling(temperature=temperature, **options.pop("sampling", {}))
        request = pb.GenerateRequest(model=model, prompt=prompt, options=pb.Options(sampling=sampling, **options))
        return list(self.stub.Generate(request, timeout=DEADLINE))

    def chat(self, model: str, *turns: tuple[str, str], **options: Any) -> list[pb.GenerateResponse]:
        messages = [pb.ChatMessage(role=role, content=content) for role, content in turns]
        options.setdefault("sampling", {"temperature": 0})
        return list(
            self.stub.Chat(
                pb.ChatRequest(model=model, messages=messages, options=pb.Options(**options)), timeout=DEADLINE
            )
        )

    def embed(self, model: str, *texts: str, raw: bool = False) -> pb.EmbedResponse:
        return self.stub.Embed(pb.EmbedRequest(model=model, texts=texts, raw=raw), timeout=DEADLINE)

    def tokenize(self, model: str, text: str, special: bool = False) -> list[int]:
        return list(
            self.stub.Tokenize(pb.TokenizeRequest(model=model, text=text, special=special), timeout=DEADLINE).tokens
        )


def text_of(answers: list[pb.GenerateResponse]) -> str:
    return "".join(answer.text for answer in answers)


@pytest.fixture(scope="module")
def llm(client_daemon: Daemon) -> Iterator[Llm]:
    """Of the tiny models."""
    with grpc.insecure_channel(client_daemon.address) as channel:
        yield Llm(channel)


@pytest.fixture(scope="module")
def real(shared_daemon: Daemon) -> Iterator[Llm]:
    """Of SmolLM2."""
    with grpc.insecure_channel(shared_daemon.address) as channel:
        yield Llm(channel)


# --- how an answer looks ---------------------------------------------------------------------------------------------


def test_pieces_usage_and_reason(llm: Llm) -> None:
    answers = llm.generate("says", "h")
    assert text_of(answers) == "elo wr\u00fcd."
    assert "\u00fc" in [a.text for a in answers], "its two bytes are two tokens, and one piece"
    assert (answers[0].model, answers[0].version) == (answers[-1].model, answers[-1].version) == ("says", "1.0.0")
    assert [a.HasField("finished") for a in answers] == [False] * (len(answers) - 1) + [True]
    finished = answers[-1].finished
    assert finished.reason == pb.Finished.STOP
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (1, 10)
    assert finished.prefill_ms > 0
    assert finished.decode_ms > 0


@pytest.mark.parametrize("count", [1, 2, 26, 60])
def test_max_tokens(llm: Llm, count: int) -> None:
    answers = llm.generate("endless", "z", max_tokens=count)
    assert text_of(answers) == (LETTERS * 3)[:count]
    assert answers[-1].finished.reason == pb.Finished.LENGTH
    assert answers[-1].finished.usage.completion_tokens == count


@pytest.mark.parametrize("stop", [["mno"], ["zz", "mno"], ["n", "mno"], ["mnopqrstuvwxyza", "mno"]])
def test_stop_strings_across_tokens(llm: Llm, stop: list[str]) -> None:
    answers = llm.generate("endless", "a", max_tokens=40, stop=stop)
    first = min((s for s in stop if s in LETTERS), key=lambda s: LETTERS.index(s) + len(s))
    assert text_of(answers) == LETTERS[1 : LETTERS.index(first)]
    assert answers[-1].finished.stop_string == first
    assert answers[-1].finished.reason == pb.Finished.STOP


def test_what_only_looked_like_a_stop_string_is_said(llm: Llm) -> None:
    assert text_of(llm.generate("endless", "a", max_tokens=6, stop=["cdx", "gh!"])) == "bcdefg"


def test_logprobs(llm: Llm) -> None:
    answers = llm.generate("talk", "hello", max_tokens=5, logprobs=3)
    choices = [choice for answer in answers for choice in answer.logprobs]
    assert len(choices) == answers[-1].finished.usage.completion_tokens
    for choice in choices:
        assert len(choice.top) == 3
        values = [token.logprob for token in choice.top]
        assert values == sorted(values, reverse=True)
        assert sum(math.exp(v) for v in values) <= 1.0001
        assert choice.chosen == choice.top[0], "greedy takes the likeliest"


def test_seeds(llm: Llm) -> None:
    def said(seed: int | None) -> tuple[str, int]:
        sampling = {} if seed is None else {"seed": seed}
        answers = llm.generate("talk", "hello", temperature=2.0, max_tokens=24, sampling=sampling)
        return text_of(answers), answers[-1].finished.seed

    first = said(1234)
    assert first == said(1234)
    assert first[1] == 1234
    assert first[0] != said(1235)[0]
    by_chance = said(None)
    assert said(by_chance[1]) == by_chance, "a seed that was drawn is told, and repeats the answer"


def test_random_bytes_come_as_valid_utf8(llm: Llm) -> None:
    """The model says bytes at random; protobuf itself would refuse a piece that isn't UTF-8."""
    for seed in range(8):
        answers = llm.generate("talk", "x", temperature=5.0, max_tokens=48, sampling={"seed": seed})
        assert text_of(answers).encode()


def test_tokenize(llm: Llm) -> None:
    assert llm.tokenize("talk", "az") == [97, 122]
    assert llm.tokenize("talk", "") == []
    plain = llm.tokenize("talk", "<|im_start|>")
    assert len(plain) > 1
    assert len(llm.tokenize("talk", "<|im_start|>", special=True)) == 1


def test_embed(llm: Llm) -> None:
    answer = llm.embed("talk", "one", "two", "one")
    vectors = [list(e.values) for e in answer.embeddings]
    assert vectors[0] == pytest.approx(vectors[2])
    assert vectors[0] != pytest.approx(vectors[1])
    assert [math.hypot(*v) for v in vectors] == pytest.approx([1, 1, 1], abs=1e-4)
    assert answer.usage.prompt_tokens == 9
    raw = list(llm.embed("talk", "one", raw=True).embeddings[0].values)
    assert math.hypot(*raw) != pytest.approx(1, abs=1e-2)
    assert [v / math.hypot(*raw) for v in raw] == pytest.approx(vectors[0], abs=1e-4)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([], "0 messages came, from 1 to"),
        ([("wizard", "hi")], "message 0 has role 'wizard', expected one of system, user, assistant, tool"),
        ([("user", "hi"), ("", "x")], "message 1 has role ''"),
        ([("user", "x" * 300)], r"prompt of (at least )?\d+ tokens, context of 128"),
    ],
)
def test_bad_conversations(llm: Llm, turns: list[tuple[str, str]], words: str) -> None:
    with fails("INVALID_ARGUMENT", words):
        llm.chat("talk", *turns)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"logprobs": 21}, "logprobs is 21, from 0 to 20"),
        ({"stop": ["x"] * 17}, "17 stop strings.*at most 16"),
        ({"stop": [""]}, "stop string has 0 bytes"),
        ({"stop": ["x" * 300]}, "stop string has 300 bytes"),
        ({"temperature": -1}, "temperature is -1"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"sampling": {"top_p": 1.5}}, "top_p is 1.5"),
        ({"sampling": {"top_k": -3}}, "top_k is -3"),
        ({"sampling": {"min_p": 2}}, "min_p is 2"),
        ({"sampling": {"repeat_penalty": 0}}, "repeat_penalty is 0"),
    ],
)
def test_bad_options(llm: Llm, options: dict[str, Any], words: str) -> None:
    with fails("INVALID_ARGUMENT", words):
        llm.generate("talk", "x", **options)
    assert text_of(llm.generate("says", "h")) == "elo wr\u00fcd."


def test_other_refusals(llm: Llm) -> None:
    with fails("NOT_FOUND", "^Request for unknown model: 'nope'"):
        llm.generate("nope", "x")
    with fails("UNIMPLEMENTED", "'pair' is not a language model"):
        llm.chat("pair", ("user", "hi"))
    with fails("UNIMPLEMENTED", "'pair' is not a language model"):
        llm.embed("pair", "x")
    with fails("UNIMPLEMENTED", "llama.pooling"):
        llm.embed("says", "x")
    with fails("INVALID_ARGUMENT", "the prompt is empty"):
        llm.generate("talk", "")
    with fails("INVALID_ARGUMENT", "0 texts came"):
        llm.embed("talk")
    with fails("INVALID_ARGUMENT", "text 1 is empty"):
        llm.embed("talk", "x", "")
    with fails("DEADLINE_EXCEEDED"):
        list(llm.stub.Generate(pb.GenerateRequest(model="endless", prompt="a"), timeout=0.3))


# --- the slot --------------------------------------------------------------------------------------------------------


def test_cancelling_frees_the_slot_within_a_step(real: Llm, shared_daemon: Daemon) -> None:
    """The second call waits for as long as the first is not cancelled, and then no longer than for one step."""
    before = settled_counters(shared_daemon, "smollm2")
    request = pb.GenerateRequest(model="smollm2", prompt="Once upon a time", options=pb.Options(max_tokens=512))
    first = real.stub.Generate(request, timeout=DEADLINE)
    next(first)
    request = pb.GenerateRequest(model="smollm2", prompt="Hello", options=pb.Options(max_tokens=1))
    second = real.stub.Generate(request, timeout=DEADLINE)
    for _ in range(30):  # by then the second has long come
        next(first)
    first.cancel()
    assert list(second)[-1].finished.usage.completion_tokens == 1
    eventually_cancelled(shared_daemon, "smollm2", before)
    spent = shared_daemon.model("smollm2").counters.execution_count - before.execution_count
    assert spent < 400, "the first was cut short: its answer has 512 steps"


def test_the_slot_of_a_cancelled_call_is_free_at_once(real: Llm) -> None:
    """A step of SmolLM2 takes some 20 ms, its whole answer 10 s: ever so busy a machine can tell the two apart."""
    request = pb.GenerateRequest(model="smollm2", prompt="Once upon a time", options=pb.Options(max_tokens=512))
    first = real.stub.Generate(request, timeout=DEADLINE)
    next(first)
    first.cancel()
    finished = real.generate("smollm2", "Hello", max_tokens=1)[-1].finished
    assert finished.queue_ms < 1000


# --- SmolLM2 ---------------------------------------------------------------------------------------------------------


def test_smollm2_chats(real: Llm) -> None:
    question = ("user", "What is the capital of France? Answer in one sentence.")
    answers = real.chat("smollm2", question, max_tokens=24)
    assert "Paris" in text_of(answers)
    assert "<|im_end|>" not in text_of(answers)
    assert len(answers) > 5
    again = real.chat("smollm2", question, ("assistant", text_of(answers)), ("user", "And of Italy?"), max_tokens=24)
    assert again[-1].finished.usage.prompt_tokens > answers[-1].finished.usage.prompt_tokens


def test_smollm2_overflows_with_numbers(real: Llm) -> None:
    with fails("INVALID_ARGUMENT", r"prompt of (at least )?[\d,]+ tokens, context of 4,096"):
        real.chat("smollm2", ("user", "word " * 6000))
    with fails("INVALID_ARGUMENT", "max_tokens is 513, this model allows at most 512"):
        real.generate("smollm2", "x", max_tokens=513)


def test_smollm2_counts_beyond_ascii(real: Llm) -> None:
    text = "\u00c4pfel, \u65e5\u672c\u8a9e, \U0001f642"
    assert len(real.tokenize("smollm2", text)) > 5
    answers = real.generate("smollm2", text, temperature=1.0, max_tokens=24, sampling={"seed": 3})
    assert "\ufffd" not in text_of(answers[:-2])


def test_the_command_line_chats(client_daemon: Daemon) -> None:
    done = client_daemon.cli("chat", "endless", "a", "--temperature", "0", "--max-tokens", "4")
    assert done.stdout.strip()
    document = json.loads(client_daemon.cli("chat", "endless", "-", "--max-tokens", "4", "--json", stdin="a").stdout)
    assert document["finished"]["usage"]["completion_tokens"] == 4
    assert document["finished"]["reason"] == "LENGTH"
    refused = client_daemon.cli("chat", "pair", "a", check=False)
    assert refused.returncode != 0
    assert "'pair' is not a language model" in refused.stderr
