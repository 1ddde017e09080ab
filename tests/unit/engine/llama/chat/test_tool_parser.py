"""What an answer's text means: the same in any cut, nothing given in halves, nothing held back without need."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import limits
from appliance.engine.llama.chat import syntax as syntaxes
from appliance.engine.llama.chat.answer import PlainParser
from appliance.engine.llama.chat.tool_parser import SpanParser

THINK = ("<think>", "</think>")
H, L, T = syntaxes.HERMES, syntaxes.LLAMA3, syntaxes.LLAMA3_TAG
M, A, C = syntaxes.MISTRAL, syntaxes.MISTRAL_ARGS, syntaxes.MISTRAL_CALL_ID
ODD = '{"s": "}</tool_call>{\\"[TOOL_CALLS]", "n": {"a": [1, {}]}}'


def hermes(*calls):
    return "\n".join(f'<tool_call>\n{{"name": "{n}", "arguments": {a}}}\n</tool_call>' for n, a in calls)


def read(parser, pieces):
    parts = [parser.push(piece) for piece in pieces] + [parser.finish()]
    calls = [(call.name, call.arguments) for part in parts for call in part.tool_calls]
    return "".join(part.text for part in parts), "".join(part.reasoning for part in parts), calls


CASES = [
    # span, inside, syntax, answer: text, reasoning, calls
    (None, False, H, "Hi there.\n", "Hi there.\n", "", []),
    (None, False, H, "", "", "", []),
    (None, False, H, " \n", " \n", "", []),
    (None, False, H, " Hi <tool_cal", " Hi <tool_cal", "", []),
    (None, False, H, "<think>x</think>y", "<think>x</think>y", "", []),
    (None, False, H, hermes(("f", "{}")), "", "", [("f", "{}")]),
    (None, False, H, "I see.\n\n" + hermes(("f", ODD), ("g", "{}")), "I see.", "", [("f", ODD), ("g", "{}")]),
    (None, False, H, "x" + hermes(("f", '{"a": 1}'))[:-15], "x", "", []),
    (None, False, H, hermes(("f", '{"a": 1}'))[:-11], "", "", [("f", '{"a": 1}')]),
    (None, False, H, hermes(("f", "{}"), ("g", "{}"))[:-14], "", "", [("f", "{}")]),
    (None, False, H, '<tool_call>\n{"name": 7}', "", "", []),
    (None, False, H, '<tool_call>\n{"name": "f", "arguments": [1]}', "", "", []),
    (None, False, H, "<tool_call>" * 3, "", "", []),
    (None, False, L, '{"name": "f", "parameters": {"a": "; "}}', "", "", [("f", '{"a": "; "}')]),
    (None, False, L, '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', "", "", [("f", "{}"), ("g", "{}")]),
    (None, False, L, '{"nam": 1}', '{"nam": 1}', "", []),
    (None, False, L, '{"nam', '{"nam', "", []),
    (None, False, L, 'See {"name": "f", "parameters": {}}', 'See {"name": "f", "parameters": {}}', "", []),
    (None, False, T, '<|python_tag|>{"name": "f", "parameters": {}}', "", "", [("f", "{}")]),
    (None, False, T, '{"name": "f", "parameters": {}}', "", "", [("f", "{}")]),
    (None, False, T, 'So: <|python_tag|>{"name": "f", "parameters": {}}', "So:", "", [("f", "{}")]),
    (None, False, M, '[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {"x": 1}}]', "", "",
     [("f", "{}"), ("g", '{"x": 1}')]),
    (None, False, M, "a [TOOL_CALL", "a [TOOL_CALL", "", []),
    (None, False, A, f"Well. [TOOL_CALLS]f.1[ARGS]{ODD}[TOOL_CALLS]g-2[ARGS]{{}}", "Well.", "", [("f.1", ODD), ("g-2", "{}")]),
    (None, False, C, '[TOOL_CALLS]f[CALL_ID]abc123xyz[ARGS]{"a": 2}', "", "", [("f", '{"a": 2}')]),
    (None, False, A, '[TOOL_CALLS]f[ARGS]{"a": 2', "", "", []),
    (None, False, A, "[TOOL_CALLS]{}", "", "", []),
    (THINK, False, None, "<think>\nHm.\n</think>\n\nHi.\n", "Hi.\n", "Hm.", []),
    (THINK, False, None, "\n<think>Hm, <thin\n\nk> </think", "", "Hm, <thin\n\nk> </think", []),
    (THINK, False, None, "<think>\n\n</think>\n\nHi", "Hi", "", []),
    (THINK, False, None, "<thi", "<thi", "", []),
    (THINK, False, None, "No <think>x</think>", "No <think>x</think>", "", []),
    (THINK, False, None, "<think>a</think><think>b</think>", "<think>b</think>", "a", []),
    (THINK, True, None, "Hm.\n</think>\nHi </think>", "Hi </think>", "Hm.", []),
    (THINK, True, None, "Hm.", "", "Hm.", []),
    (THINK, True, H, "Hm <tool_call>.\n</think>\n" + hermes(("f", "{}")), "", "Hm <tool_call>.", [("f", "{}")]),
    (THINK, False, H, "<think>Hm</think>\nSo:\n" + hermes(("f", "{}")), "So:", "Hm", [("f", "{}")]),
    (THINK, False, L, '<think>Hm</think>\n\n{"name": "f", "parameters": {}}', "", "Hm", [("f", "{}")]),
    (THINK, True, L, '</think>{"na', '{"na', "", []),
]  # fmt: skip


@pytest.mark.parametrize(("span", "inside", "syntax", "answer", "text", "reasoning", "calls"), CASES)
def test_meaning(span, inside, syntax, answer, text, reasoning, calls):
    assert read(SpanParser(span, inside=inside, syntax=syntax), [answer]) == (text, reasoning, calls)
    assert read(SpanParser(span, inside=inside, syntax=syntax), list(answer)) == (text, reasoning, calls)


FRAGMENTS = st.sampled_from(
    [*"<>{}[]\"\\/ \n;,", "<think>", "</think>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "f",
     "<|python_tag|>", '{"name": "f", "arguments": {"a": "b"}}', '{"name": "f", "parameters": {}}', '{"name"', "é€😀"]
)  # fmt: skip


@given(
    st.sampled_from([None, THINK]),
    st.booleans(),
    st.sampled_from([None, H, L, T, M, A, C]),
    st.lists(FRAGMENTS, max_size=12).map("".join),
    st.data(),
)
def test_any_cut_gives_the_same(span, inside, syntax, answer, data):
    inside = inside and span is not None
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=8)))
    pieces = [answer[a:b] for a, b in zip([0, *cuts], [*cuts, len(answer)], strict=True)]
    whole = read(SpanParser(span, inside=inside, syntax=syntax), [answer])
    assert read(SpanParser(span, inside=inside, syntax=syntax), pieces) == whole
    for _, arguments in whole[2]:
        assert isinstance(json.loads(arguments), dict)


@pytest.mark.parametrize(
    ("pushed", "out"), [("Hello", "Hello"), ("Hello ", "Hello"), ("a <b", "a <b"), ("a <tool", "a"), ("<", "")]
)
def test_text_is_held_back_only_while_it_may_be_a_marker(pushed, out):
    assert SpanParser(THINK, syntax=H).push(pushed).text == out


def test_reasoning_streams():
    parser = SpanParser(THINK)
    assert [parser.push(p).reasoning for p in ("<think>", "\nOne", " two", "</", "x")] == ["", "One", " two", "", "</x"]


def test_calls_come_when_they_are_complete_each_with_an_id_of_its_own():
    parser = SpanParser(None, syntax=H)
    one, two = hermes(("f", "{}")), "\n" + hermes(("f", "{}"))
    first, second = parser.push(one).tool_calls, parser.push(two).tool_calls
    assert len(first) == len(second) == 1
    assert first[0].id != second[0].id
    for call in (*first, *second):
        assert call.id.startswith("call_")
        assert len(bytes.fromhex(call.id[5:])) == 12


@pytest.mark.parametrize(
    ("syntax", "start", "end"), [(H, '<tool_call>{"name": "f", "arguments": ', "}"), (A, "[TOOL_CALLS]f[ARGS]", "")]
)
@pytest.mark.parametrize("piece", [1000, 10**9])
def test_arguments_over_the_limit_are_dropped_and_not_kept(syntax, start, end, piece):
    answer = start + '{"a": "' + "x" * limits.tool_arguments_bytes_max + '"}' + end
    parser = SpanParser(None, syntax=syntax)
    _, _, calls = read(parser, [answer[n : n + piece] for n in range(0, len(answer), piece)])
    assert calls == []


def test_after_a_dropped_call_the_next_one_is_read():
    big = '{"a": "' + "x" * limits.tool_arguments_bytes_max + '"}'
    assert read(SpanParser(None, syntax=H), [hermes(("f", big), ("g", "{}"))])[2] == [("g", "{}")]


@given(st.lists(st.text()))
def test_a_plain_answer_passes_through(pieces):
    assert read(PlainParser(), pieces) == ("".join(pieces), "", [])
