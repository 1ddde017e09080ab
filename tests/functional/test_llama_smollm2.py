"""The GGUF engine with a real model: SmolLM2-135M-Instruct, made by scripts/make_models.

Needs APPLIANCE_TEST_MODELS, the folder that scripts/make_models filled.
"""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from llama_harness import make_spec, run, submit

from appliance.calls import ChatMessage, EmbedCall, GenerateCall, Sampling
from appliance.engine.base import LoadOptions
from appliance.engine.llama import load
from appliance.errors import InvalidArgument
from appliance.model_spec import LlamaOptions

pytestmark = pytest.mark.slow
GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def engine():
    models = os.environ.get("APPLIANCE_TEST_MODELS")
    files = sorted(Path(models, "smollm2").glob("*.gguf")) if models else []
    if not files:
        pytest.skip("APPLIANCE_TEST_MODELS names no folder with smollm2/*.gguf (run scripts/make_models)")
    spec = make_spec(LlamaOptions(context_tokens=1024, pooling="mean"))
    model = msgspec.structs.replace(spec.files[0], path=files[0].name)
    cores = os.sched_getaffinity(0)
    engine = load(msgspec.structs.replace(spec, files=(model,)), files[0].parent, LoadOptions())
    engine.warm_up()
    yield engine
    engine.close()
    # ggml keeps the thread that computes on one core: the daemons of later tests would inherit it.
    os.sched_setaffinity(0, cores)


def chat(engine, *turns, **options):
    options.setdefault("max_tokens", 32)
    roles = ("user", "assistant")
    messages = tuple(ChatMessage(roles[n % 2], turn) for n, turn in enumerate(turns))
    return run(engine, GenerateCall(messages=messages, sampling=GREEDY, **options))


def test_it_continues_a_text(engine):
    reply = run(engine, GenerateCall(prompt="The capital of France is", sampling=GREEDY, max_tokens=8))
    assert "Paris" in reply.text


def test_it_ends_its_turn_by_itself(engine):
    reply = chat(engine, "Reply with one short greeting.", max_tokens=200)
    assert reply.done.reason == "stop"
    assert reply.text.strip()
    assert "<|im_end|>" not in reply.text


def test_the_second_turn_computes_only_what_is_new(engine):
    first = chat(engine, "Name a colour.")
    before = engine.stats()
    again = chat(engine, "Name a colour.", first.text, "And another one.", max_tokens=1)
    after = engine.stats()
    assert again.done.prompt_tokens > first.done.prompt_tokens + first.done.completion_tokens
    assert after.execution_count - before.execution_count == 1


def test_unicode_comes_whole(engine):
    reply = run(
        engine,
        GenerateCall(
            prompt="\u65e5\u672c\u8a9e: \u3053\u3093\u306b\u3061\u306f\u3001", sampling=Sampling(seed=5), max_tokens=40
        ),
    )
    pieces = "".join(piece.text for piece in reply.pieces[:-1])
    assert "\ufffd" not in pieces


def test_a_stop_string_that_begins_in_one_token_and_ends_in_another(engine):
    prompt = "1, 2, 3, 4, 5,"
    whole = run(engine, GenerateCall(prompt=prompt, sampling=GREEDY, max_tokens=12)).text
    stop = whole[3:8]
    reply = run(engine, GenerateCall(prompt=prompt, sampling=GREEDY, max_tokens=12, stop=(stop,)))
    assert reply.text == whole[: whole.index(stop)]
    assert reply.done.stop_string == stop


def test_context_overflow_names_the_numbers(engine):
    with pytest.raises(InvalidArgument, match=r"prompt of 1,\d{3} tokens, context of 1,024"):
        submit(engine, GenerateCall(prompt="one two three four " * 300))


def test_like_texts_have_like_vectors(engine):
    reply = run(engine, EmbedCall(texts=("a cat sleeps", "a kitten is sleeping", "the stock market fell sharply")))
    rows = np.frombuffer(reply.buffers[0], "<f4").reshape(3, -1)
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
