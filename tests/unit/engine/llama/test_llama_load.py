"""Loading: good and bad files and options, and the log of the library."""

import logging
import os

import pytest
from llama_harness import make_engine, make_spec, submit
from tiny_gguf import write_tiny_gguf

from appliance.calls import ChatMessage, GenerateCall
from appliance.engine.base import LoadOptions
from appliance.engine.llama import load
from appliance.engine.llama.model import thread_count
from appliance.engine.llama.native import _LogSink
from appliance.errors import FailedPrecondition, InvalidArgument
from appliance.model_spec import LlamaOptions


def load_tiny(folder, llama=None, *, files=(), **model):
    write_tiny_gguf(folder / "model.gguf", **model)
    return load(make_spec(llama, files=files), folder, LoadOptions(threads=1))


@pytest.mark.parametrize("cut", [0, 3, 500, 9_000, -1])
def test_a_truncated_file_is_refused(tmp_path, cut):
    path = write_tiny_gguf(tmp_path / "model.gguf")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InvalidArgument) as caught:
        load(make_spec(), tmp_path, LoadOptions())
    assert caught.value.reason == "MODEL_CORRUPT"
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"blk.0.attn_q.weight", b"blk.0.attn_X.weight"),
        (b"general.architecture", b"general.architectur_"),
        (b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00lmama"),
        (b"llama.embedding_length\x04\x00\x00\x00\x40", b"llama.embedding_length\x04\x00\x00\x00\x41"),
        (b"tokenizer.ggml.tokens", b"tokenizer.ggml.tokenz"),
    ],
)
def test_a_file_that_llama_cpp_cannot_load_is_refused(tmp_path, before, after):
    path = write_tiny_gguf(tmp_path / "model.gguf")
    data = path.read_bytes()
    assert before in data
    path.write_bytes(data.replace(before, after, 1))
    with pytest.raises(InvalidArgument, match="the engine's log says why") as caught:
        load(make_spec(), tmp_path, LoadOptions())
    assert caught.value.reason == "MODEL_NOT_LOADABLE"
    assert str(tmp_path) not in caught.value.message


def test_a_missing_file(tmp_path):
    with pytest.raises(InvalidArgument, match="is missing") as caught:
        load(make_spec(), tmp_path, LoadOptions())
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(("named", "context"), [(0, 128), (64, 64), (200, 200)])
def test_the_context(tmp_path, named, context):
    engine = load_tiny(tmp_path, LlamaOptions(context_tokens=named))
    assert engine.signature().context_tokens_max == context
    engine.close()


def test_the_context_is_bounded_unless_named(tmp_path):
    engine = load_tiny(tmp_path, context=100_000)
    assert engine.signature().context_tokens_max == 8192
    engine.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (LlamaOptions(context_tokens=-1), "llama.context_tokens is -1"),
        (LlamaOptions(context_tokens=2**40), "llama.context_tokens is 1,099,511,627,776"),
        (LlamaOptions(batch_tokens=0), "llama.batch_tokens is 0"),
        (LlamaOptions(chat_template="x.jinja"), "'x.jinja' isn't listed with role"),
        (LlamaOptions(chat_template="../../etc/passwd"), "isn't listed with role"),
    ],
)
def test_bad_options(tmp_path, options, words):
    with pytest.raises(InvalidArgument, match=words):
        load_tiny(tmp_path, options)


def test_a_template_of_the_folder_replaces_the_models_own(tmp_path):
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}!")
    engine = load_tiny(tmp_path, LlamaOptions(chat_template="t.jinja"), files=("t.jinja",))
    assert engine._parts.prompts.build(GenerateCall(messages=(ChatMessage("user", "ab"),))).tokens == [97, 98, 33]
    engine.close()


@pytest.mark.parametrize(("content", "words"), [(b"\xff", "not UTF-8"), (None, "is missing")])
def test_a_bad_template_file(tmp_path, content, words):
    if content is not None:
        (tmp_path / "t.jinja").write_bytes(content)
    with pytest.raises(InvalidArgument, match=words) as caught:
        load_tiny(tmp_path, LlamaOptions(chat_template="t.jinja"), files=("t.jinja",))
    assert str(tmp_path) not in caught.value.message


def test_a_broken_template_costs_only_chat(tmp_path):
    engine = load_tiny(tmp_path, chat_template="{% if %}")
    assert not engine.signature().chats
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="line 1 is not valid jinja2"):
            submit(engine, GenerateCall(messages=(ChatMessage("user", "a"),)))
    engine.close()


def test_a_looping_template_costs_only_its_call(tmp_path, monkeypatch):
    from appliance import limits

    monkeypatch.setattr(limits, "template_time_ms_max", 50)
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    engine = load_tiny(tmp_path, chat_template=loop)
    with pytest.raises(InvalidArgument, match="took more than 50 ms"):
        submit(engine, GenerateCall(messages=(ChatMessage("user", "a"),)))
    assert not engine.has_work()
    assert submit(engine, GenerateCall(prompt="a", max_tokens=1)) is not None
    engine.close()


def test_a_template_that_writes_the_beginning_of_text_itself(tmp_path):
    engine = load_tiny(tmp_path, chat_template="{{ bos_token }}{{ messages[0].content }}")
    tokens = engine._parts.prompts.build(GenerateCall(messages=(ChatMessage("user", "ab"),))).tokens
    assert tokens == [engine._model.vocab.bos, 97, 98]
    engine.close()


@pytest.mark.parametrize(("own", "given", "threads"), [(3, 2, 3), (0, 2, 2), (0, 0, 4), (9, 2, 4), (0, 9, 4)])
def test_threads(monkeypatch, own, given, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert thread_count(LlamaOptions(threads=own), given) == threads


def test_the_queue_bound_of_the_daemon_counts_when_the_model_has_none(tmp_path):
    write_tiny_gguf(tmp_path / "model.gguf")
    engine = load(make_spec(), tmp_path, LoadOptions(threads=1, queue_max=3))
    assert engine._queue_max == 3
    engine.close()


def test_loading_and_closing_again_and_again(tmp_path):
    for _ in range(20):
        engine = make_engine(tmp_path, LlamaOptions(pooling="mean"))
        engine.warm_up()
        engine.close()


def test_the_librarys_log_comes_out_in_whole_lines_at_its_level(caplog):
    sink = _LogSink()
    with caplog.at_level(logging.DEBUG, "appliance.engine.llama.native"):
        for level, text in [
            (2, b"load"),
            (5, b"ing .."),
            (5, b".\n"),
            (3, b"careful\n"),
            (4, b"bad \xff\n"),
            (1, b"\n"),
            (9, None),
        ]:
            sink(level, text, None)
    assert [(r.levelno, r.message) for r in caplog.records] == [
        (logging.DEBUG, "loading ..."),
        (logging.WARNING, "careful"),
        (logging.ERROR, "bad \ufffd"),
    ]
