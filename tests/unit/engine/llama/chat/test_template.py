"""Chat templates: what Hugging Face's renderer offers, and what an evil one tries."""

import json
import resource
import signal
import time

import pytest
from tiny_gguf import CHAT_TEMPLATE

from appliance import limits
from appliance.engine.llama.chat.template import ChatTemplate
from appliance.errors import FailedPrecondition, InvalidArgument

CHAT = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\n"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>"}]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (CHAT_TEMPLATE, CHAT),
        ("{{ bos_token }}{{ messages[1].content }}{{ eos_token }}", "<s>Hi <b></s>"),
        ("{{ messages[1] | tojson }}", '{"role": "user", "content": "Hi <b>"}'),
        ("  {% if true %}\n  x\n  {% endif %}\n", "  x\n"),
        ("{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% endfor %}", "user"),
        ("{% for m in messages %}{{ m.role }}{% break %}{% endfor %}", "system"),
        ("{% if tools is none %}none{% endif %}{% if date_string is defined %}x{% endif %}", "none"),
        ("{{ messages[0]['content'] | trim }}{{ add_generation_prompt }}", "Be brief.True"),
        ("{{ 7 * 6 }}{{ 2 ** 10 }}{{ '-' * 3 }}", "421024---"),
    ],
)  # fmt: skip
def test_renders(source, text):
    assert ChatTemplate(source, bos="<s>", eos="</s>").render(MESSAGES) == text


def test_strftime_now_gives_the_year():
    assert ChatTemplate("{{ strftime_now('%Y') }}").render(MESSAGES) in {
        str(time.localtime().tm_year),
        str(time.localtime().tm_year - 1),
    }


TOOLS = [{"type": "function", "function": {"name": "f", "description": "é", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("{{ tools | tojson }}", {"tools": TOOLS}, json.dumps(TOOLS, ensure_ascii=False)),
        ("{% for t in tools %}{{ t.function.parameters.type }}{% endfor %}", {"tools": TOOLS}, "object"),
        ("{{ add_generation_prompt }}", {"next_turn": False}, "False"),
        ("{{ enable_thinking is defined }}", {}, "False"),
        ("{{ enable_thinking is false }}", {"thinking": False}, "True"),
    ],
)
def test_what_else_templates_are_given(source, options, text):
    assert ChatTemplate(source).render(MESSAGES, **options) == text


@pytest.fixture
def short_limits(monkeypatch):
    monkeypatch.setattr(limits, "template_time_ms_max", 100)
    monkeypatch.setattr(limits, "template_memory_bytes_max", 64 * 1024 * 1024)
    monkeypatch.setattr(limits, "template_output_bytes_max", 100_000)


LOOP = "{% for i in range(99999) %}{% for j in range(99999) %}BODY{% endfor %}{% endfor %}"
DOUBLING = "{% set n = namespace(x=START) %}{% for i in range(90) %}{% set n.x = n.x OP n.x %}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{% for i in range(10**9) %}{% endfor %}", "CHAT_TEMPLATE_FAILED"),
        (LOOP.replace("BODY", ""), "CHAT_TEMPLATE_LIMIT"),
        (LOOP.replace("BODY", "x" * 100), "CHAT_TEMPLATE_LIMIT"),
        (DOUBLING.replace("START", "'ab'").replace("OP", "~"), "CHAT_TEMPLATE_LIMIT"),
        (DOUBLING.replace("START", "[1]").replace("OP", "+"), "CHAT_TEMPLATE_LIMIT"),
        (DOUBLING.replace("START", "3").replace("OP", "*"), "CHAT_TEMPLATE_FAILED"),
        ("{{ 9 ** (9 ** 9) }}", "CHAT_TEMPLATE_FAILED"),
        ("{{ 'a' * 10**10 }}", "CHAT_TEMPLATE_LIMIT"),
        ("{{ '%010000000000d' % 1 }}", "CHAT_TEMPLATE_LIMIT"),
        ("{{ 'a'.center(10**10) }}", "CHAT_TEMPLATE_LIMIT"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "CHAT_TEMPLATE_FAILED"),
        ("{{ ''.__class__.__mro__ }}", "CHAT_TEMPLATE_FAILED"),
        ("{{ messages.append(1) }}", "CHAT_TEMPLATE_FAILED"),
        ("{{ tools[0].update(a=1) }}", "CHAT_TEMPLATE_FAILED"),
        ("{% for a in tools[0].x %}{% for b in tools[0].x %}{{ a }}{% endfor %}{% endfor %}", "CHAT_TEMPLATE_LIMIT"),
        ("{{ nobody.knows.this }}", "CHAT_TEMPLATE_FAILED"),
        ("{{ 1 / 0 }}", "CHAT_TEMPLATE_FAILED"),
        ("{% include 'x' %}", "CHAT_TEMPLATE_FAILED"),
        ("{{ raise_exception('no system role here') }}", "CHAT_TEMPLATE_REFUSED"),
    ],
)
@pytest.mark.usefixtures("short_limits")
def test_a_bad_template_ends_with_a_typed_error(source, reason):
    template = ChatTemplate(source)
    began = time.process_time()
    with pytest.raises(InvalidArgument) as caught:
        template.render(MESSAGES, tools=[{"x": "y" * 50_000}])
    assert caught.value.reason == reason
    assert time.process_time() - began < 2


def test_what_the_template_says_is_told_and_bounded():
    with pytest.raises(InvalidArgument, match="only user and assistant"):
        ChatTemplate("{{ raise_exception('only user and assistant') }}").render(MESSAGES)
    with pytest.raises(InvalidArgument) as caught:
        ChatTemplate("{{ raise_exception('x' * 100000) }}").render(MESSAGES)
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{{", "{% nope %}", "{{" + "(" * 5000 + ")" * 5000 + "}}", "x" * (limits.template_bytes_max + 1)],
)
def test_what_is_no_template_is_refused_at_load(source):
    with pytest.raises(FailedPrecondition, match="use Generate") as caught:
        ChatTemplate(source)
    assert caught.value.reason == "CHAT_TEMPLATE_BROKEN"


@pytest.mark.usefixtures("short_limits")
def test_bounds_are_lifted_afterwards():
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(InvalidArgument):
        ChatTemplate(LOOP.replace("BODY", "")).render(MESSAGES)
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGVTALRM)) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert ChatTemplate("fine").render(MESSAGES) == "fine"
