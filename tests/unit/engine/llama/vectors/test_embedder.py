"""Many calls' texts in one batch: fair, bounded, and each failure its own call's."""

import gguf
import numpy as np
import pytest
from tiny_gguf import EMBD, write_tiny_gguf
from vector_rig import VectorRig, rows, vector_rig

from appliance import limits
from appliance.calls import EmbedCall, RerankCall
from appliance.engine.llama.context import Decoded
from appliance.engine.llama.native import C
from appliance.engine.llama.vectors.embed import required
from appliance.errors import InternalError, Unimplemented
from appliance.model_spec import LlamaOptions

MEAN = LlamaOptions(pooling="mean")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_gguf(tmp_path_factory.mktemp("m") / "model.gguf")


@pytest.fixture
def rig(model):
    with vector_rig(model, MEAN) as rig:
        yield rig


@pytest.fixture(params=[("mean", True), ("last", True), ("last", False)], ids=["mean", "last", "last, plain attention"])
def poisoned(request, tmp_path, monkeypatch):
    """A model in which whatever has a "~" in it becomes NaN. Flash attention jumps over what it masks, plain does not."""
    pooling, flash = request.param
    path = write_tiny_gguf(tmp_path / "model.gguf")
    (embedding,) = [t for t in gguf.GGUFReader(str(path), "r+").tensors if t.name == "token_embd.weight"]
    embedding.data[ord("~")] = np.nan
    native = C.llama_context_default_params

    def params():
        result = native()
        if not flash:
            result.flash_attn_type = C.LLAMA_FLASH_ATTN_TYPE_DISABLED
        return result

    monkeypatch.setattr(C, "llama_context_default_params", params)
    with vector_rig(path, LlamaOptions(pooling=pooling)) as rig:
        yield rig


def texts(rig: VectorRig, batch: int) -> list[str]:
    return [bytes(tokens).decode() for tokens in rig.batches[batch]]


def test_texts_of_several_calls_are_computed_together(rig):
    replies = [rig.submit(EmbedCall(texts=(f"text {n}",))) for n in range(5)]
    rig.step()
    assert texts(rig, 0) == [f"text {n}" for n in range(5)]
    assert all(reply.final for reply in replies)
    assert not rig.embedder.jobs


def test_each_call_gets_its_own_rows(rig):
    calls = [tuple(f"{n}{k}" * (1 + k) for k in range(1 + 3 * n)) for n in range(5)]
    replies = [rig.submit(EmbedCall(texts=call)) for call in calls]
    rig.run()
    together = [rows(reply) for reply in replies]
    assert len(rig.batches) < sum(map(len, calls)) / 8
    for call, got in zip(calls, together, strict=True):
        assert got.shape == (len(call), EMBD)
        for text, row in zip(call, got, strict=True):
            # Half-precision keys and values, and another order of sums.
            assert rig.embed(text)[0] == pytest.approx(row, abs=5e-3)


def test_a_large_call_does_not_hold_up_a_small_one(rig):
    large = rig.submit(EmbedCall(texts=("a",) * limits.embed_texts_max))
    rig.step()
    small = rig.submit(EmbedCall(texts=("b",)))
    rig.step()
    assert small.final
    assert not large.over
    rig.run()
    assert rows(large).shape == (limits.embed_texts_max, EMBD)
    assert len(rig.batches) == -(-(limits.embed_texts_max + 1) // limits.embed_sequences_max)


def test_more_calls_than_a_batch_takes_are_served_in_turn(rig):
    replies = [rig.submit(EmbedCall(texts=("a", "b"))) for _ in range(limits.embed_sequences_max + 4)]
    for _ in range(2):
        rig.step()
    assert [job.computed for job in rig.embedder.jobs] == [1] * 8
    assert sum(reply.over for reply in replies) == 12
    rig.run()
    assert all(reply.final for reply in replies)


def test_a_long_text_waits_one_batch_at_most(rig, monkeypatch):
    monkeypatch.setattr(limits, "embed_step_tokens", 8)
    many = rig.submit(EmbedCall(texts=("abc",) * 10))
    long = rig.submit(EmbedCall(texts=("x" * 100,)))
    rig.step()
    rig.step()
    assert [len(batch) for batch in rig.batches] == [2, 1]
    assert long.final
    rig.run()
    assert rows(many).shape[0] == 10


def test_no_batch_has_more_tokens_than_its_bound_and_one_text(rig, monkeypatch):
    monkeypatch.setattr(limits, "embed_step_tokens", 50)
    for n in range(1, 12):
        rig.submit(EmbedCall(texts=tuple("y" * (7 * n) for _ in range(n))))
    rig.run()
    for batch in rig.batches:
        assert sum(map(len, batch)) <= max(50, len(batch[0]))


def test_a_cancelled_calls_texts_are_passed_over(rig):
    cancelled, other = (rig.submit(EmbedCall(texts=(text,) * 20)) for text in ("aa", "bb"))
    rig.step()
    cancelled.cancelled = True
    rig.step()
    assert set(texts(rig, 1)) == {"bb"}
    rig.embedder.jobs.remove(next(job for job in rig.embedder.jobs if job.reply is cancelled))
    rig.run()
    assert not cancelled.over
    assert other.final


def test_with_only_cancelled_calls_nothing_is_computed(rig):
    rig.submit(EmbedCall(texts=("aa",))).cancelled = True
    rig.step()
    assert rig.batches == []


def test_when_a_job_started_is_kept(rig):
    rig.submit(EmbedCall(texts=("a",) * 20))
    (job,) = rig.embedder.jobs
    rig.step(now_ns=5)
    rig.step(now_ns=9)
    assert job.started_ns == 5


@pytest.mark.parametrize("outcome", [Decoded.NO_ROOM, Decoded.FAILED, Decoded.INVALID, Decoded.ABORTED])
def test_a_failed_batch_is_tried_again_job_by_job(rig, outcome):
    replies = [rig.submit(EmbedCall(texts=(text,) * 2)) for text in "abc"]
    rig.outcomes = [outcome, outcome]
    rig.run()
    assert isinstance(replies[0].error, InternalError)
    assert [rows(reply).shape for reply in replies[1:]] == [(2, EMBD)] * 2
    assert [texts(rig, n) for n in range(4)] == [["a", "b", "c", "a", "b", "c"], ["a", "a"], ["b", "b"], ["c", "c"]]


def test_nan_fails_only_the_call_whose_text_it_is(poisoned):
    good, bad, other = (poisoned.submit(EmbedCall(texts=pair)) for pair in [("ab", "cd"), ("ab", "c~"), ("ef",)])
    poisoned.run()
    assert bad.error is not None
    assert bad.error.reason == "NUMERIC"
    assert np.isfinite(rows(good)).all()
    assert np.isfinite(rows(other)).all()


def test_nan_leaves_nothing_behind_in_the_cache(poisoned):
    before = poisoned.embed("abc")
    bad = poisoned.submit(EmbedCall(texts=("~" * 60,)))
    poisoned.run()
    assert bad.error
    assert np.array_equal(poisoned.embed("abc"), before)


def test_who_can_do_what(rig):
    embed, rerank = EmbedCall(texts=("a",)), RerankCall(query="a", documents=("b",))
    assert required(rig.embedder, embed) is rig.embedder
    with pytest.raises(Unimplemented, match="does not rerank; use one whose GGUF"):
        required(rig.embedder, rerank)
    with pytest.raises(Unimplemented, match="does not rerank"):
        required(None, rerank)
    with pytest.raises(Unimplemented, match=r'set llama\.pooling to "mean"'):
        required(None, embed)
