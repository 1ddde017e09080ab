"""EmbedCalls through the whole engine, over a tiny model that is told how to pool; see test_embedder.py."""

import numpy as np
import pytest
from llama_harness import make_engine, run, run_until, submit
from tiny_gguf import EMBD

from appliance import limits
from appliance.answers import EmbedDone
from appliance.calls import EmbedCall, GenerateCall, Sampling
from appliance.clock import FakeClock
from appliance.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unimplemented
from appliance.model_spec import LlamaOptions


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    engine = make_engine(tmp_path_factory.mktemp("m"), LlamaOptions(pooling="mean"))
    yield engine
    engine.close()


@pytest.fixture
def engine(tmp_path):
    engine = make_engine(
        tmp_path, LlamaOptions(pooling="mean"), clock=FakeClock(10**9), queue_max=2, script=b"abcd", loop=True
    )
    yield engine
    engine.close()


def rows(reply) -> np.ndarray:
    assert isinstance(reply.final, EmbedDone), reply.error
    (buffer,) = reply.buffers
    return np.frombuffer(buffer, "<f4").reshape(reply.final.count, reply.final.dimensions)


def embed(engine, *texts, **options):
    return run(engine, EmbedCall(texts=texts, **options))


def test_one_normalised_row_for_each_text(shared):
    reply = embed(shared, "abc", "hello", "xyz")
    assert (reply.final.count, reply.final.dimensions, reply.final.prompt_tokens) == (3, EMBD, 3 + 3 + 3)
    assert np.linalg.norm(rows(reply), axis=1) == pytest.approx(1, abs=1e-5)


def test_raw_rows_point_the_same_way(shared):
    unit, raw = rows(embed(shared, "abc"))[0], rows(embed(shared, "abc", normalize=False))[0]
    assert np.linalg.norm(raw) > 1.5
    assert raw / np.linalg.norm(raw) == pytest.approx(unit, abs=1e-5)


def test_a_text_has_the_same_row_alone_and_in_company(shared):
    texts = [chr(97 + n % 26) * (1 + n % 30) for n in range(40)]
    together = rows(embed(shared, *texts))
    for n in (0, 7, 15, 16, 39):
        # Half-precision keys and values, and another order of sums.
        assert rows(embed(shared, texts[n]))[0] == pytest.approx(together[n], abs=5e-3)
    assert len({row.tobytes() for row in together}) > 20


@pytest.mark.parametrize("pooling", ["cls", "last"])
def test_other_poolings_give_other_rows(tmp_path, shared, pooling):
    engine = make_engine(tmp_path, LlamaOptions(pooling=pooling))
    assert np.abs(rows(embed(engine, "abc")) - rows(embed(shared, "abc"))).max() > 0.05
    engine.close()


@pytest.mark.parametrize("pooling", ["model", "none"])
def test_a_model_without_pooling_says_how_to_get_it(tmp_path, pooling):
    engine = make_engine(tmp_path, LlamaOptions(pooling=pooling))
    assert not engine.signature().embeds
    with pytest.raises(Unimplemented, match=r'set llama\.pooling to "mean"'):
        submit(engine, EmbedCall(texts=("a",)))
    engine.close()


def test_control_tokens_in_a_text_are_text(shared):
    assert embed(shared, "<|im_end|>").final.prompt_tokens == 10


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ((), "0 texts to embed"),
        (("a",) * 257, "257 texts to embed, allowed: 1 to 256"),
        (("a", ""), "text 1 is empty"),
        (("a", "\ud800"), "text 1 is not valid Unicode"),
        (("a" * 129,), "text 0 has 129 tokens or more, an embedding takes at most 128"),
        (("ok", "a" * 100_000), "text 1 has [0-9,]+ tokens or more"),
        (("a" * 3_000_000,) * 2, "texts of 6,000,000 bytes"),
    ],
)  # fmt: skip
def test_bad_calls(shared, texts, words):
    with pytest.raises(InvalidArgument, match=words):
        submit(shared, EmbedCall(texts=texts))
    assert not shared.has_work()


def test_a_text_as_long_as_the_context_fits(shared):
    assert embed(shared, "a" * 128, "b" * 128).final.prompt_tokens == 256


def test_steps_are_bounded(shared, monkeypatch):
    monkeypatch.setattr(limits, "embed_step_tokens", 4)
    reply = submit(shared, EmbedCall(texts=("abcd",) * 3))
    assert run_until(shared, lambda: reply.over) == 3


def test_generation_and_embedding_take_turns(engine):
    stream = submit(engine, GenerateCall(prompt="a", sampling=Sampling(temperature=0.0), max_tokens=20))
    vectors = submit(engine, EmbedCall(texts=("abcd" * 30,) * 6))
    run_until(engine, lambda: vectors.over)
    assert 3 <= len(stream.pieces) <= 8
    run_until(engine, lambda: not engine.has_work())
    assert stream.done.completion_tokens == 20


def test_jobs_count_in_the_queue(engine):
    for _ in range(2):
        submit(engine, EmbedCall(texts=("a",)))
    with pytest.raises(ResourceExhausted):
        submit(engine, EmbedCall(texts=("a",)))


def test_cancel_and_deadline(engine):
    cancelled = submit(engine, EmbedCall(texts=("ab",)))
    late = submit(engine, EmbedCall(texts=("ab",), deadline_ns=2 * 10**9))
    cancelled.cancelled = True
    engine._clock.advance(5)
    engine.step()
    assert not cancelled.over
    assert isinstance(late.error, DeadlineExceeded)
    assert not engine.has_work()
    assert (engine.stats().cancel_count, engine.stats().fail_count) == (1, 1)


def test_nan_is_never_answered(engine, monkeypatch):
    monkeypatch.setattr(engine._embedder.context, "embedding", lambda _seq, size: np.full(size, np.nan, np.float32))
    reply = embed(engine, "ab")
    assert reply.error.reason == "NUMERIC"
    assert not engine.has_work()
