"""Pinned prefixes at load: computed once, kept on disk, read at the next start, and never evicted."""

import logging

import pytest
from llama_harness import make_spec, run
from tiny_gguf import write_tiny_gguf

from appliance.calls import ChatMessage, GenerateCall, Sampling
from appliance.engine.base import LoadOptions
from appliance.engine.llama.load import load
from appliance.errors import FailedPrecondition
from appliance.model_spec import LlamaOptions, PinnedPrefix

GREEDY = Sampling(temperature=0.0)
SYSTEM = "you are a machine that answers in one word, whatever it is asked"
PINNED = (
    PinnedPrefix(system=SYSTEM),
    PinnedPrefix(system=SYSTEM + " and never more"),
    PinnedPrefix(prompt="once upon"),
)


@pytest.fixture
def folder(tmp_path):
    write_tiny_gguf(tmp_path / "model.gguf", context=256)
    return tmp_path


def started(folder, pinned=PINNED, digest="sha256:1", cache=True):
    options = LoadOptions(threads=1, cache_dir=str(folder / "cache") if cache else "", digest=digest)
    engine = load(make_spec(LlamaOptions(pinned=pinned)), folder, options)
    engine.warm_up()
    return engine


def ask(engine, text="hi"):
    messages = (ChatMessage("system", SYSTEM), ChatMessage("user", text))
    return run(engine, GenerateCall(messages=messages, sampling=GREEDY, max_tokens=4)).done


def test_the_first_call_finds_the_system_message_computed(folder):
    engine = started(folder, cache=False)
    done = ask(engine)
    assert done.reused_tokens > len(SYSTEM)
    assert engine.stats().prefix_hits == 1
    assert not (folder / "cache").exists()
    engine.close()


def test_a_pinned_prefix_outlives_everything_that_needs_room(folder):
    engine = started(folder)
    cache = engine._generation.roster.cache
    assert not cache.make_room(cache.tokens)
    assert ask(engine).reused_tokens > len(SYSTEM)
    whole = run(engine, GenerateCall(prompt="z" * 250, sampling=GREEDY, max_tokens=0))
    assert whole.done.completion_tokens == 7  # a whole context still fits beside it
    engine.close()


def test_the_next_start_reads_them_from_disk(folder, caplog):
    first = started(folder)
    expected = ask(first)
    first.close()
    assert len(list((folder / "cache").iterdir())) == 3
    with caplog.at_level(logging.INFO):
        second = started(folder)
    assert caplog.text.count("was read from disk") == 3
    assert "pinned prefix:" not in caplog.text
    found = ask(second)
    assert (found.completion_tokens, found.reused_tokens) == (expected.completion_tokens, expected.reused_tokens)
    second.close()


@pytest.mark.parametrize("change", ["digest", "damage"])
def test_what_does_not_fit_is_computed_anew(folder, change, caplog):
    started(folder).close()
    if change == "damage":
        for path in (folder / "cache").iterdir():
            path.write_bytes(path.read_bytes()[:-1] + b"\0\1")
    engine = started(folder, digest="sha256:2" if change == "digest" else "sha256:1")
    assert caplog.text.count("is computed anew") == 3
    assert ask(engine).reused_tokens > len(SYSTEM)
    engine.close()
    again = started(folder, digest="sha256:2" if change == "digest" else "sha256:1")
    assert caplog.text.count("is computed anew") == 3
    again.close()


def test_prefixes_that_are_pinned_no_more_leave_the_disk(folder):
    started(folder).close()
    started(folder, pinned=PINNED[:1]).close()
    assert len(list((folder / "cache").iterdir())) == 1


def test_a_template_that_knows_no_system_message(folder):
    write_tiny_gguf(folder / "model.gguf", chat_template="{{ messages[-1].content }}")
    with pytest.raises(FailedPrecondition, match=r"llama.pinned\[0\]") as caught:
        started(folder)
    assert caught.value.reason == "PINNED_PREFIX"
