"""One sequence's mask: what it forbids, when it ends, what it forces, and that it never goes on without its grammar."""

import numpy as np
import pytest
from constrain_harness import TinyVocab
from tiny_gguf import EOS, IM_END, IM_START

from appliance.calls import Constraint
from appliance.engine.llama.constrain.compiler import GrammarCompiler
from appliance.engine.llama.constrain.mask import TokenMask
from appliance.errors import ApplianceError, InternalError, InvalidArgument


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyVocab:
    return TinyVocab(tmp_path_factory.mktemp("mask"))


@pytest.fixture(scope="module")
def compiler(tiny: TinyVocab) -> GrammarCompiler:
    return GrammarCompiler(tiny.vocab)


def start(compiler: GrammarCompiler, pattern: str) -> TokenMask:
    return compiler.compile(Constraint("regex", pattern)).start()


def allowed(mask: TokenMask, size: int) -> set[int]:
    logits = np.zeros(size, np.float32)
    mask.apply(logits)
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def test_only_what_is_allowed_stays(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    mask = start(compiler, "[ab]c?")
    assert allowed(mask, tiny.vocab.size) == {ord("a"), ord("b")}
    mask.accept(ord("a"))
    assert allowed(mask, tiny.vocab.size) == {ord("c"), EOS, IM_END}
    mask.accept(ord("c"))
    assert allowed(mask, tiny.vocab.size) == {EOS, IM_END}


def test_logits_that_stay_are_not_changed(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    before = np.random.default_rng(1).standard_normal(tiny.vocab.size).astype(np.float32) * 1e6
    logits = before.copy()
    start(compiler, "[a-z]").apply(logits)
    stays = np.isfinite(logits)
    assert (logits[stays] == before[stays]).all()
    assert (logits[~stays] == -np.inf).all()


def test_logits_beyond_the_tokenizer_are_forbidden(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    padded = tiny.vocab.size + 100
    assert allowed(start(compiler, "(?s:.*)"), padded) == allowed(start(compiler, "(?s:.*)"), tiny.vocab.size)


def test_control_tokens_are_never_text(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    mask = start(compiler, "(?s:.+)")
    assert IM_START not in allowed(mask, tiny.vocab.size)
    assert IM_END not in allowed(mask, tiny.vocab.size)
    mask.accept(ord("<"))
    assert allowed(mask, tiny.vocab.size) >= {EOS, IM_END, ord("|")}


def test_merged_tokens_are_allowed_where_their_text_is(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    token = tiny.vocab.tokenize(b"he", add_special=False, parse_special=False)
    assert len(token) == 1
    assert allowed(start(compiler, "h(ello|ey|a)"), tiny.vocab.size) == {ord("h"), *token}


@pytest.mark.parametrize(
    ("pattern", "text", "may_end", "complete"),
    [
        ("ab?", "", False, False),
        ("ab?", "a", True, False),
        ("ab?", "ab", True, True),
        ("a+", "aaa", True, False),
        ("a{3}", "aaa", True, True),
        ("a|ab", "a", True, False),
        ("é", "é", True, True),
    ],
)
def test_where_an_answer_may_and_must_end(
    compiler: GrammarCompiler, pattern: str, text: str, may_end: bool, complete: bool
) -> None:
    mask = start(compiler, pattern)
    for byte in text.encode():
        mask.accept(byte)
    assert (mask.may_end, mask.complete) == (may_end, complete)


def test_a_json_object_is_complete_with_its_last_bracket(compiler: GrammarCompiler) -> None:
    mask = compiler.compile(Constraint("json")).start()
    for byte in b'{"a":[1]':
        mask.accept(byte)
        assert not mask.complete
    mask.accept(ord("}"))
    assert mask.complete


@pytest.mark.parametrize(
    ("pattern", "text", "most", "expected"),
    [
        ("[ab]", "", 8, ""),
        ("abc[xy]def", "", 8, "abc"),
        ("abc[xy]def", "abcx", 8, "def"),
        ("abc[xy]def", "abcx", 2, "de"),
        ("abc[xy]def", "abcx", 0, ""),
        ("abc", "abc", 8, ""),
    ],
)
def test_what_is_forced(
    tiny: TinyVocab, compiler: GrammarCompiler, pattern: str, text: str, most: int, expected: str
) -> None:
    mask = start(compiler, pattern)
    for byte in text.encode():
        mask.accept(byte)
    forced = mask.forced(most)
    assert b"".join(map(tiny.vocab.piece, forced)).decode() == expected
    assert len(forced) <= most
    for token in forced:
        mask.accept(token)


def test_forced_tokens_are_the_tokenizer_s_own(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    forced = start(compiler, "the shell: [0-9]").forced(32)
    written = tiny.vocab.tokenize(b"the shell: ", add_special=False, parse_special=False)
    assert len(forced) >= 5
    assert forced == written[: len(forced)]


def test_states_of_one_grammar_are_apart(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    grammar = compiler.compile(Constraint("regex", "ab|ba"))
    one, two = grammar.start(), grammar.start()
    one.accept(ord("a"))
    two.accept(ord("b"))
    assert allowed(one, tiny.vocab.size) == {ord("b")}
    assert allowed(two, tiny.vocab.size) == {ord("a")}
    assert allowed(grammar.start(), tiny.vocab.size) == {ord("a"), ord("b")}


@pytest.mark.parametrize("computed", [True, False])
def test_a_forbidden_token_is_an_error(tiny: TinyVocab, compiler: GrammarCompiler, computed: bool) -> None:
    mask = start(compiler, "ab")
    if computed:
        allowed(mask, tiny.vocab.size)
    with pytest.raises(ApplianceError) as raised:
        mask.accept(ord("b"))
    assert raised.value.reason == "CONSTRAINT_FAILED"
    if computed:
        assert isinstance(raised.value, InternalError)


def test_after_an_error_nothing_goes_on(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    mask = start(compiler, "ab")
    with pytest.raises(ApplianceError):
        mask.accept(ord("x"))
    assert not mask.complete
    assert mask.forced(4) == []
    with pytest.raises(ApplianceError, match="constraint"):
        mask.apply(np.zeros(tiny.vocab.size, np.float32))


def test_a_dead_end_is_an_error_and_never_an_open_mask(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    """A terminal that no text matches, behind a choice: compiling doesn't look so far."""
    mask = compiler.compile(Constraint("lark", 'start: "a" "c" | "x" A\nA: /y/ & /z/\n')).start()
    assert allowed(mask, tiny.vocab.size) == {ord("a"), ord("x")}
    mask.accept(ord("x"))
    with pytest.raises(InvalidArgument) as raised:
        allowed(mask, tiny.vocab.size)
    assert raised.value.reason == "CONSTRAINT_FAILED"
