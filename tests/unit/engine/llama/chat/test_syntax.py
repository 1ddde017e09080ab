"""Which syntax and which reasoning span a template's source shows."""

import pytest
from chat_templates import CHATML, CHATML_INSIDE, CHATML_THINKS, GEMMA, LLAMA3, MISTRAL
from tiny_gguf import CHAT_TEMPLATE
from tiny_vocab import TinyVocab

from appliance.engine.llama.chat.markers import Marker, find_marker, pattern
from appliance.engine.llama.chat.reasoning import find_span
from appliance.engine.llama.chat.syntax import find_syntax


@pytest.mark.parametrize(
    ("source", "name", "opening", "parallel"),
    [
        (CHATML, "hermes", "<tool_call>", True),
        (LLAMA3, "llama3", "", False),
        (LLAMA3.replace("single tool-calls at once", "x"), "llama3", "", True),
        (LLAMA3 + "{{ '<|python_tag|>' }}", "llama3", "<|python_tag|>", False),
        (LLAMA3.replace('"', '\\"'), "llama3", "", False),
        (MISTRAL, "mistral", "[TOOL_CALLS]", True),
        (MISTRAL + "[ARGS]", "mistral_args", "[TOOL_CALLS]", True),
        (MISTRAL + "[CALL_ID][ARGS]", "mistral_args", "[TOOL_CALLS]", True),
        (GEMMA, "generic", "<tool_call>", True),
        (CHAT_TEMPLATE, "generic", "<tool_call>", True),
        (CHATML + "<arg_key>", "generic", "<tool_call>", True),
        (CHATML + "<function=", "generic", "<tool_call>", True),
        ("{{ tools }}<|tool▁calls▁begin|>", "generic", "<tool_call>", True),
        ("<tool_call> of toolsmiths", "generic", "<tool_call>", True),
        ("", "generic", "<tool_call>", True),
    ],
)
def test_syntax(source, name, opening, parallel):
    syntax = find_syntax(source)
    assert (syntax.name, syntax.opening, syntax.parallel) == (name, opening, parallel)
    assert syntax.native == (name != "generic")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    made = TinyVocab(tmp_path_factory.mktemp("vocab"), control=("<think>",), user=("[THINK]", "<tool_call>"))
    yield made
    made.close()


def test_markers(tiny):
    assert find_marker(tiny.vocab, "<think>") == Marker("<think>", tiny.ids["<think>"], control=True)
    assert find_marker(tiny.vocab, "[THINK]") == Marker("[THINK]", tiny.ids["[THINK]"], control=False)
    assert find_marker(tiny.vocab, "</think>") == Marker("</think>")
    assert find_marker(tiny.vocab, "<think>").lark == f"<[{tiny.ids['<think>']}]>"
    assert find_marker(tiny.vocab, "</think>").lark == '"</think>"'
    assert pattern("</x>[.]") == r"<\/x>\[\.\]"


@pytest.mark.parametrize(
    ("source", "opening"),
    [
        (CHATML, None), (CHATML_THINKS, "<think>"), (CHATML_INSIDE, "<think>"), ("split('</think>')", "<think>"),
        ("[THINK]", "[THINK]"), ("", None), ("I think", None),
    ],
)  # fmt: skip
def test_spans(tiny, source, opening):
    span = find_span(source, tiny.vocab)
    assert (span.opening.text if span else None) == opening


def test_where_a_span_is_open(tiny):
    span = find_span("<think>", tiny.vocab)
    assert span.opened_by("assistant\n<think>\n")
    assert not span.opened_by("assistant\n<think>\n\n</think>\n\n")
    assert not span.opened_by("<think> you said")
    assert span.left_open_in("<think>a</think><think>")
    assert not span.left_open_in("<think>a</think>")
    assert not span.left_open_in("")
    assert span.closed("a\n<think>\n") == "a\n<think>\n\n</think>\n\n"
