"""Reranking by a tiny BERT whose scores grow with the share of one letter."""

import numpy as np
import pytest
from llama_harness import RecordingReply
from tiny_gguf import write_tiny_gguf
from tiny_reranker import CLS, LIKED, SEP, WORDPIECES, write_tiny_reranker
from vector_rig import scores, vector_rig

from appliance import limits
from appliance.answers import RerankDone
from appliance.calls import EmbedCall, RerankCall
from appliance.engine.llama.model import LlamaModel
from appliance.errors import InternalError, InvalidArgument, Unimplemented
from appliance.model_spec import LlamaOptions


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    with vector_rig(write_tiny_reranker(tmp_path_factory.mktemp("m") / "model.gguf")) as rig:
        yield rig


def variant(tmp_path, options: LlamaOptions | None = None, **model):
    return vector_rig(write_tiny_reranker(tmp_path / "model.gguf", **model), options)


def refusal(rig, query: str, *documents: str) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        rig.embedder.prepare(RerankCall(query=query, documents=documents), RecordingReply())
    assert not rig.embedder.jobs
    return caught.value


def inputs(rig, query: str, *documents: str) -> list[list[int]]:
    return rig.embedder.prepare(RerankCall(query=query, documents=documents), RecordingReply()).inputs


def test_the_better_document_scores_higher(rig):
    got = rig.rerank("ab", "xyz", "xgz", "gggg", "ggggggggg")
    assert list(got) == sorted(got)
    assert len(set(got)) == 4


def test_the_answer_counts_tokens(rig):
    reply = rig.submit(RerankCall(query="ab", documents=("xyz", "x")))
    rig.run()
    assert isinstance(reply.final, RerankDone)
    assert reply.final.prompt_tokens == (3 + 2 + 3) + (3 + 2 + 1)


def test_a_document_scores_the_same_alone_and_in_company(rig):
    documents = [LIKED * (n % 5) + chr(97 + n % 26) * (1 + n % 30) for n in range(50)]
    together = rig.rerank("some query", *documents)
    for n in (0, 15, 16, 33, 49):
        assert rig.rerank("some query", documents[n])[0] == pytest.approx(together[n], abs=1e-4)


def test_documents_of_many_calls_share_a_batch(rig):
    del rig.batches[:]
    replies = [rig.submit(RerankCall(query=f"q{n}", documents=("a", "g" * n))) for n in range(1, 5)]
    rig.run()
    assert [len(batch) for batch in rig.batches] == [8]
    first = [scores(reply) for reply in replies]
    assert first == [pytest.approx(rig.rerank(f"q{n}", "a", "g" * n), abs=1e-4) for n in range(1, 5)]


def test_query_and_document_stand_between_the_models_own_tokens(rig):
    assert inputs(rig, "ab", "xyz") == [[CLS, *b"ab", SEP, *b"xyz", SEP]]


def test_control_tokens_in_texts_are_text(rig):
    assert inputs(rig, "<sep>", "<cls>") == [[CLS, *b"<sep>", SEP, *b"<cls>", SEP]]


def test_wordpiece_closes_with_sep(tmp_path):
    with variant(tmp_path, wordpiece=True) as rig:
        (tokens,) = inputs(rig, "ab", "c")
        assert [WORDPIECES[token] for token in tokens] == ["[CLS]", "\u2581a", "b", "[SEP]", "\u2581c", "[SEP]"]


def test_the_models_own_template(tmp_path):
    with variant(tmp_path, template="<cls>find {query} in {document}: {query}<sep>") as rig:
        assert inputs(rig, "ab", "xyz") == [[CLS, *b"find ab in xyz: ab", SEP]]
        assert inputs(rig, "{document}<sep>", "{query}") == [
            [CLS, *b"find {document}<sep> in {query}: {document}<sep>", SEP]
        ]
        low, high = rig.rerank("ab", "xyz", "ggg")
        assert low < high


@pytest.mark.parametrize(
    ("query", "documents", "words", "reason"),
    [
        ("a", (), "0 documents to rerank, allowed: 1 to 256", "INVALID_ARGUMENT"),
        ("a", ("b",) * 257, "257 documents to rerank", "INVALID_ARGUMENT"),
        ("", ("b",), "the query is empty", "PROMPT_EMPTY"),
        (" \n", ("b",), "the query is empty", "PROMPT_EMPTY"),
        ("a", ("b", ""), "document 1 is empty: leave it out", "PROMPT_EMPTY"),
        ("\ud800", ("b",), "the query is not valid Unicode", "INVALID_ARGUMENT"),
        ("a", ("b", "\udfff"), "document 1 is not valid Unicode", "INVALID_ARGUMENT"),
        ("a", ("b", "c" * 125), "document 1 has with the query 129 tokens or more, at most 128", "CONTEXT_OVERFLOW"),
        ("a", ("b", "c" * 1_000_000), "document 1 has with the query [0-9,]+ tokens or more", "CONTEXT_OVERFLOW"),
        ("a" * 126, ("b",), "the query takes 128 tokens, query and document together at most 128", "CONTEXT_OVERFLOW"),
        ("a" * 1_000_000, ("b",), "tokens or more", "CONTEXT_OVERFLOW"),
        ("a" * 20_000, ("b",) * 256, r"documents of 5,120,256 bytes, the query counted with each", "INVALID_ARGUMENT"),
        ("a", ("b" * 5_000_000,), "documents of 5,000,001 bytes", "INVALID_ARGUMENT"),
    ],
)  # fmt: skip
def test_bad_calls(rig, query, documents, words, reason):
    error = refusal(rig, query, *documents)
    assert error.reason == reason
    with pytest.raises(InvalidArgument, match=words):
        raise error


def test_a_document_that_just_fits(rig):
    assert len(rig.rerank("a", "c" * 124)) == 1


def test_a_template_that_leaves_no_room(tmp_path):
    with variant(tmp_path, template="x" * 100 + "{query}{document}") as rig:
        assert len(rig.rerank("a" * 14, "b" * 14)) == 1
        assert "document 0 has with the query 129 tokens" in refusal(rig, "a" * 14, "b" * 15).message


def test_as_many_documents_as_are_allowed(rig):
    got = rig.rerank("q", *("a" * (1 + n % 20) for n in range(limits.rerank_documents_max)))
    assert len(got) == limits.rerank_documents_max
    assert np.isfinite(got).all()


def test_nan_fails_only_the_call_whose_document_it_is(tmp_path):
    with variant(tmp_path, nan_byte=ord("~")) as rig:
        good, bad = (rig.submit(RerankCall(query="q", documents=("a", text))) for text in ("b", "~"))
        rig.run()
        assert isinstance(bad.error, InternalError)
        assert bad.error.reason == "NUMERIC"
        assert np.isfinite(scores(good)).all()


def test_a_reranker_does_not_embed(rig):
    with pytest.raises(Unimplemented, match="this model reranks, its output is a score and no vector"):
        rig.embedder.prepare(EmbedCall(texts=("a",)), RecordingReply())


def test_a_reranker_embeds_when_told_how_to_pool(tmp_path):
    with variant(tmp_path, LlamaOptions(pooling="mean")) as rig:
        assert not rig.embedder.reranks
        assert rig.embed("abc").shape[0] == 1
        with pytest.raises(Unimplemented, match="does not rerank"):
            rig.submit(RerankCall(query="a", documents=("b",)))


@pytest.mark.parametrize(
    ("file", "reranks"),
    [
        ({}, True),
        # Qwen3's kind: the odds of yes.
        ({"labels": ("yes", "no")}, True),
        ({"labels": ("only",)}, True),
        ({"labels": ("entailment", "neutral", "contradiction")}, False),
        ({"head": False}, False),
    ],
)
def test_which_models_rerank(tmp_path, file, reranks):
    model = LlamaModel(write_tiny_reranker(tmp_path / "model.gguf", **file), LlamaOptions())
    assert (model.reranks, model.pooling is not None, model.generates) == (reranks, reranks, False)
    model.close()


def test_a_language_model_does_not_rerank(tmp_path):
    model = LlamaModel(write_tiny_gguf(tmp_path / "model.gguf"), LlamaOptions())
    assert (model.reranks, model.generates) == (False, True)
    model.close()


def test_a_context_beyond_the_models_positions_is_refused(tmp_path):
    path = write_tiny_reranker(tmp_path / "model.gguf", context=64)
    with pytest.raises(InvalidArgument, match=r"llama\.context_tokens is 65, the model knows 64 positions"):
        LlamaModel(path, LlamaOptions(context_tokens=65))
