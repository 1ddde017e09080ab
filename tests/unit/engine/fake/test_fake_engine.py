"""The fake engines do what their script says, nothing else."""

import json
import struct
import subprocess
import sys
import time

import pytest

from appliance.answers import GenerateDone, TextPiece
from appliance.calls import (
    ChatMessage,
    Constraint,
    EmbedCall,
    GenerateCall,
    InferCall,
    OutputWanted,
    RerankCall,
    Sampling,
    StatsCall,
    TokenizeCall,
    Tool,
)
from appliance.engine import arrays
from appliance.engine.base import LoadOptions
from appliance.engine.golden import CollectingReply
from appliance.engine.loading import load
from appliance.errors import DeadlineExceeded, InternalError, InvalidArgument, ResourceExhausted, Unimplemented
from appliance.model_spec import Card, ModelFile, ModelSpec
from appliance.types import DATATYPE_BYTES, Tensor

CARD = Card(licence="none", source="a test", intended_use="tests", limits="tests")
SPEC = ModelSpec(name="m", version="1.0.0", engine="fake", card=CARD, files=(ModelFile(path="m.json"),))


@pytest.fixture
def make(tmp_path):
    def make(queue_max=128, **script):
        (tmp_path / "m.json").write_text(json.dumps(script))
        return load(SPEC, tmp_path, LoadOptions(queue_max=queue_max))

    return make


def reply():
    return CollectingReply(time.monotonic_ns())


def drive(engine, call, tensors=()):
    answer = reply()
    engine.submit(call, list(tensors), answer)
    steps = 0
    while not answer.done:
        assert engine.has_work()
        engine.step()
        steps += 1
    if answer.error:
        raise answer.error
    return answer, steps


def generate(engine, **options):
    answer, _ = drive(engine, GenerateCall(**options))
    pieces = [a for a in answer.answers if isinstance(a, TextPiece)]
    done = answer.answers[-1]
    assert isinstance(done, GenerateDone)
    return [p.text for p in pieces], done


@pytest.mark.parametrize("datatype", [*DATATYPE_BYTES, "BYTES"])
def test_echo(make, datatype):
    engine = make(tensors=[{"name": "x", "datatype": datatype}])
    data = arrays.encode_elements(["a", "bc"]) if datatype == "BYTES" else b"\1" * 2 * DATATYPE_BYTES[datatype]
    answer, _ = drive(engine, InferCall(), [Tensor("x", datatype, (2,), data)])
    assert [(t.name, t.datatype, t.shape) for t in answer.answers[0].tensors] == [("out_x", datatype, (2,))]
    assert bytes(answer.buffers[0]) == data


def test_several_tensors_and_a_subset(make):
    engine = make(tensors=[{"name": "a"}, {"name": "b", "output": "c", "optional": True}])
    tensors = [Tensor("a", "FP32", (1,), b"aaaa"), Tensor("b", "FP32", (1,), b"bbbb")]
    answer, _ = drive(engine, InferCall(outputs=(OutputWanted("c"), OutputWanted("out_a"))), tensors)
    assert [bytes(b) for b in answer.buffers] == [b"bbbb", b"aaaa"]
    answer, _ = drive(engine, InferCall(), tensors[:1])
    assert [t.name for t in answer.answers[0].tensors] == ["out_a"]
    with pytest.raises(InvalidArgument, match="no output 'z'"):
        drive(engine, InferCall(outputs=(OutputWanted("z"),)), tensors)


def test_constant_tells_versions_apart(make):
    answer, _ = drive(make(constant=2), InferCall(), [Tensor("x", "FP32", (1,), struct.pack("<f", 1.5))])
    assert bytes(answer.buffers[0]) == struct.pack("<f", 3.5)


@pytest.mark.parametrize(
    "tensor", [Tensor("z", "FP32", (1,), b"1234"), Tensor("x", "INT8", (1,), b"1"), Tensor("x", "FP32", (2,), b"1234")]
)
def test_bad_tensor(make, tensor):
    with pytest.raises(InvalidArgument):
        make().submit(InferCall(), [tensor], reply())


def test_queue_and_deadline_and_cancel(make):
    engine = make(queue_max=2)
    late, gone = reply(), reply()
    engine.submit(InferCall(deadline_ns=1), [], late)
    engine.submit(InferCall(), [], gone)
    with pytest.raises(ResourceExhausted):
        engine.submit(InferCall(), [], reply())
    gone.cancelled = True
    engine.step()
    engine.step()
    assert isinstance(late.error, DeadlineExceeded)
    assert not gone.done
    assert (engine.stats().fail_count, engine.stats().cancel_count) == (1, 1)


def test_fail_on(make):
    engine = make(tensors=[{"datatype": "UINT8"}], fail_on="boom")
    with pytest.raises(InternalError, match="told to fail"):
        drive(engine, InferCall(), [Tensor("x", "UINT8", (5,), b"aboom")])
    assert drive(engine, InferCall(), [Tensor("x", "UINT8", (3,), b"boo")])


def test_delay(make):
    started = time.monotonic()
    drive(make(delay_ms=30), InferCall(), [])
    assert time.monotonic() - started >= 0.03


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({"refuse": {"message": "no such luck"}}, "no such luck"),
        ({"typo": 1}, "no script of a fake engine.*typo"),
        ({"tensors": [{"datatype": "FP7"}]}, "no datatype 'FP7'"),
    ],
)
def test_refusal(make, script, words):
    with pytest.raises(InvalidArgument, match=words):
        make(**script)


CRASHING = [
    ({"crash_on": "die", "kind": "language"}, "GenerateCall(prompt='please die now')", -6),
    ({"crash_on": "die", "kind": "language"}, "GenerateCall(prompt='please live')", 0),
    ({"crash_after": 1, "kind": "language"}, "GenerateCall(prompt='once')", 0),
    ({"crash_on_load": True}, "InferCall()", -6),
]


@pytest.mark.parametrize(("script", "call", "status"), CRASHING)
def test_crash(tmp_path, script, call, status):
    (tmp_path / "m.json").write_text(json.dumps(script))
    program = f"""
import sys, resource
from pathlib import Path
from appliance.calls import *
from appliance.engine.base import LoadOptions
from appliance.engine.loading import load
from appliance.engine.golden import CollectingReply
from appliance.model_spec import *
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
spec = ModelSpec(name="m", version="1.0.0", engine="fake", files=(ModelFile(path="m.json"),),
    card=Card(licence="", source="", intended_use="", limits=""))
engine = load(spec, Path(sys.argv[1]), LoadOptions())
reply = CollectingReply(0)
engine.submit({call}, [], reply)
while not reply.done:
    engine.step()
"""
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60).returncode == status


def test_words_come_one_a_step(make):
    engine = make(kind="language")
    answer, steps = drive(engine, GenerateCall(prompt="one  two\nthree"))
    assert [a.text for a in answer.answers[:-1]] == ["one", "  two", "\nthree"]
    assert steps == 4
    done = answer.answers[-1]
    assert (done.reason, done.prompt_tokens, done.completion_tokens) == ("stop", 3, 3)
    assert (engine.stats().tokens_in, engine.stats().tokens_out) == (3, 3)


def test_messages(make):
    texts, _ = generate(make(kind="language"), messages=(ChatMessage("system", "no"), ChatMessage("user", "yes sir")))
    assert "".join(texts) == "yes sir"


@pytest.mark.parametrize(
    ("stop", "text", "reason", "stop_string"),
    [
        (("two",), "one ", "stop", "two"),
        (("e tw",), "on", "stop", "e tw"),
        (("e two three",), "on", "stop", "e two three"),
        (("three", "two"), "one ", "stop", "two"),
        (("two three four",), "one two three", "stop", ""),
        (("",), "one two three", "stop", ""),
    ],
)
def test_stop_strings_across_words(make, stop, text, reason, stop_string):
    texts, done = generate(make(kind="language"), prompt="one two three", stop=stop)
    assert ("".join(texts), done.reason, done.stop_string) == (text, reason, stop_string)


@pytest.mark.parametrize(
    ("max_tokens", "text", "reason"), [(1, "a", "length"), (3, "a b c", "stop"), (9, "a b c", "stop")]
)
def test_max_tokens(make, max_tokens, text, reason):
    texts, done = generate(make(kind="language"), prompt="a b c", max_tokens=max_tokens)
    assert ("".join(texts), done.reason) == (text, reason)


def test_held_back_text_is_not_lost_at_the_length(make):
    texts, done = generate(make(kind="language"), prompt="a b c", max_tokens=2, stop=("b c",))
    assert ("".join(texts), done.reason) == ("a b", "length")


def test_cancel_ends_a_generation_within_a_step(make):
    engine = make(kind="language")
    first, second = reply(), reply()
    engine.submit(GenerateCall(prompt="a b c"), [], first)
    engine.submit(GenerateCall(prompt="d"), [], second)
    engine.step()
    assert engine.stats().running == 2
    first.cancelled = True
    engine.step()
    assert second.done
    assert not engine.has_work()
    assert len(first.answers) == 1
    assert engine.stats().cancel_count == 1


def test_logprobs_and_seed(make):
    answer, _ = drive(make(kind="language"), GenerateCall(prompt="a b", logprobs=2, sampling=Sampling(seed=7)))
    assert answer.answers[1].logprobs[0].chosen.piece == b" b"
    assert answer.answers[-1].seed == 7


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (GenerateCall(), InvalidArgument),
        (GenerateCall(prompt="a", messages=(ChatMessage("user", "b"),)), InvalidArgument),
        (GenerateCall(messages=()), InvalidArgument),
        (GenerateCall(prompt="a b c d e"), InvalidArgument),
        (InferCall(), Unimplemented),
        (StatsCall(), Unimplemented),
        (RerankCall(query="a", documents=("b",)), Unimplemented),
        (GenerateCall(prompt="a", n=2), Unimplemented),
        (GenerateCall(prompt="a", constraint=Constraint("json")), Unimplemented),
        (GenerateCall(messages=(ChatMessage("user", "a"),), tools=(Tool("t"),), tool_choice="required"), Unimplemented),
        (GenerateCall(prompt="a", min_tokens=1), Unimplemented),
        (GenerateCall(prompt="a", ignore_eos=True), Unimplemented),
        (GenerateCall(prompt="a", stop_token_ids=(1,)), Unimplemented),
        (GenerateCall(prompt="a", logit_bias=((1, 1.0),)), Unimplemented),
        (GenerateCall(prompt="a", adapter="a"), Unimplemented),
    ],
)
def test_bad_language_calls(make, call, error):
    with pytest.raises(error):
        make(kind="language", context_tokens=4).submit(call, [], reply())


def test_late_generation(make):
    with pytest.raises(DeadlineExceeded):
        drive(make(kind="language"), GenerateCall(prompt="a", deadline_ns=1))


def test_embeddings_and_tokens(make):
    engine = make(kind="language", dimensions=8)
    answer, _ = drive(engine, EmbedCall(texts=("a", "b", "a")))
    rows = struct.unpack("<24f", answer.buffers[0])
    assert rows[:8] == rows[16:] != rows[8:16]
    assert sum(n * n for n in rows[:8]) == pytest.approx(1.0)
    tokens = drive(engine, TokenizeCall(text="a b a"))[0].answers[0].tokens
    assert len(tokens) == 3
