"""A call's constraint to a grammar that masks can be made of; nothing is left to find out while the answer is written.

A compilation is bounded (source.py and its neighbours), tried on its first tokens, and kept: the same constraint again
costs a look-up. It runs on a thread with a large stack, because llguidance recurses over what refers to what.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark

from appliance import limits
from appliance.calls import Constraint
from appliance.engine.llama.constrain.choice import lark_of_choices
from appliance.engine.llama.constrain.gbnf import lark_of_gbnf
from appliance.engine.llama.constrain.lark import check_lark
from appliance.engine.llama.constrain.mask import Shape, TokenMask
from appliance.engine.llama.constrain.schema import parse_schema
from appliance.engine.llama.constrain.source import check_regex, check_text, invalid, too_complex
from appliance.engine.llama.constrain.tokenizer import build_tokenizer
from appliance.engine.llama.vocab import Vocab
from appliance.errors import InvalidArgument, ResourceExhausted

_log = logging.getLogger("appliance.engine.llama.constrain.compiler")
_T = TypeVar("_T")
# What llguidance says when it is size that it refuses, in this version.
_TOO_COMPLEX = (
    "too big",
    "too large",
    "too many",
    "too complex",
    "too deeply",
    "fuel exhausted",
    "limit",
    "precomputation",
)


def _parser_limits() -> LLParserLimits:
    """The bounds that llguidance keeps itself; README.md says what was measured for each."""
    return LLParserLimits(
        max_items_in_row=2_000,
        initial_lexer_fuel=200_000,
        step_lexer_fuel=100_000,
        step_max_items=10_000,
        max_lexer_states=50_000,
        max_grammar_size=50_000,
        # Else it walks the whole vocabulary for each large expression, before it looks at its fuel: seconds.
        precompute_large_lexemes=False,
        # Its errors would hold the whole grammar, which is the caller's.
        verbose_errors=False,
    )


class Grammar:
    """A compiled constraint, shared by all sequences that follow it."""

    def __init__(self, matcher: LLMatcher, shape: Shape, source_bytes: int) -> None:
        self._matcher = matcher
        self._shape = shape
        self.source_bytes = source_bytes

    def start(self) -> TokenMask:
        """The state before the first token of an answer. Takes 0.01 ms."""
        return TokenMask(self._matcher.deep_copy(), self._shape)


class GrammarCompiler:
    """Compiles for one model's vocabulary. Owned by one thread; keeps what it compiled last."""

    def __init__(self, vocab: Vocab) -> None:
        self._vocab = vocab
        self._shape = Shape(vocab.size, vocab.turn_ends)
        self._tokenizer: LLTokenizer | None = None
        self._limits = _parser_limits()
        self._kept: OrderedDict[Constraint | str, Grammar] = OrderedDict()
        self._kept_bytes = 0

    def prepare(self) -> None:
        """Makes the vocabulary ready, once: 0.2 s for 49,152 tokens, in which the interpreter does nothing else.

        To be called when the model is loaded, or the first constraint makes everybody wait for it.
        """
        if self._tokenizer is None:
            self._tokenizer = build_tokenizer(self._vocab)

    def compile(self, constraint: Constraint) -> Grammar:
        """The grammar of a caller's constraint.

        Raises InvalidArgument: CONSTRAINT_INVALID for what cannot be compiled or satisfied, CONSTRAINT_TOO_COMPLEX for
        what would take too long or too much. Takes at most some 0.2 s.
        """
        return self._cached(constraint, lambda: _SOURCES[constraint.kind](constraint))

    def compile_lark(self, source: str) -> Grammar:
        """The grammar of Lark that we wrote ourselves (chat/): it may name control tokens, and set a schema's options.

        The schemas in it are a caller's, so everything else is checked, and raised, as in ``compile``.
        """
        return self._cached(source, lambda: _trusted(source))

    def _cached(self, key: Constraint | str, grammar: Callable[[], str]) -> Grammar:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        self.prepare()
        made = self._compile(grammar())
        self._keep(key, made)
        return made

    def _keep(self, key: Constraint | str, grammar: Grammar) -> None:
        self._kept[key] = grammar
        self._kept_bytes += grammar.source_bytes
        while len(self._kept) > limits.grammar_cache_entries_max or (
            self._kept_bytes > limits.grammar_cache_bytes_max and len(self._kept) > 1
        ):
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.source_bytes

    def _compile(self, source: str) -> Grammar:
        matcher = _on_large_stack(lambda: self._build(source))
        if matcher.is_error():
            raise _refusal(matcher.get_error())
        return Grammar(matcher, self._shape, len(source.encode()))

    def _build(self, source: str) -> LLMatcher:
        """A matcher, or the one whose error says why there is none."""
        assert self._tokenizer is not None
        matcher = LLMatcher(self._tokenizer, source, log_level=0, limits=self._limits)
        if matcher.is_error():
            return matcher
        probe = matcher.deep_copy()
        first = probe.compute_bitmask() if not probe.is_error() else b""
        # What every answer begins with shows whether the first real choice is too wide (an object's properties).
        forced = self._vocab.tokenize(probe.compute_ff_bytes()[:256], add_special=False, parse_special=False)
        if not probe.is_error() and any(first) and forced and not probe.is_stopped():
            probe.try_consume_tokens(forced)
            if not probe.is_error() and not probe.is_stopped():
                probe.compute_bitmask()
        return probe if probe.is_error() else matcher


def _on_large_stack(work: Callable[[], _T]) -> _T:
    """``work()`` on a thread of its own, for which the caller waits; its stack is address space until it is used."""
    done: list[_T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    before = threading.stack_size(limits.constraint_stack_bytes)
    try:
        thread = threading.Thread(target=run, name="compile-grammar")
        thread.start()
    except RuntimeError:
        raise ResourceExhausted("no memory to compile the constraint: try again", reason="CONSTRAINT_MEMORY") from None
    finally:
        threading.stack_size(before)
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _refusal(error: str) -> InvalidArgument:
    """What llguidance said, as far as a client may see it: the first line, bounded. The rest may be its own schema."""
    said = error.strip().split("\n", 1)[0][: limits.quoted_chars_max]
    if "NoExtension" in said:
        return invalid("the constraint cannot be satisfied: no text is allowed by it")
    if any(sign in error for sign in _TOO_COMPLEX):
        return too_complex(f"the constraint is too complex: {said}")
    return invalid(f"the constraint cannot be compiled: {said}")


def _schema(constraint: Constraint) -> str:
    return _json_grammar(parse_schema(constraint.text))


def _json_grammar(schema: str) -> str:
    # The defaults, said again: options of a schema's own would count for less than these.
    return LLMatcher.grammar_from_json_schema(schema, overrides={"lenient": False, "coerce_one_of": False})


def _regex(constraint: Constraint) -> str:
    what = "the regular expression"
    check_text(constraint.text, what, limits.constraint_regex_bytes_max)
    check_regex(constraint.text, what)
    if (len(constraint.text) - len(constraint.text.rstrip("\\"))) % 2:
        raise invalid(f"{what} ends in the middle of an escape")  # regex_to_lark would drop it
    # Digits and word characters are ASCII's, as in JSON Schema: who writes \\d cannot read Arabic digits.
    return LLMatcher.grammar_from_lark(f"start: /{regex_to_lark(constraint.text, 'dw')}/")


def _lark(constraint: Constraint) -> str:
    check_lark(constraint.text, trusted=False)
    return LLMatcher.grammar_from_lark(constraint.text)


def _gbnf(constraint: Constraint) -> str:
    return _lark(Constraint("lark", lark_of_gbnf(constraint.text)))


def _trusted(source: str) -> str:
    check_lark(source, trusted=True)
    return LLMatcher.grammar_from_lark(source)


_SOURCES: dict[str, Callable[[Constraint], str]] = {
    "json_schema": _schema,
    "json": lambda _: _json_grammar('{"type": "object"}'),
    "regex": _regex,
    "lark": _lark,
    "gbnf": _gbnf,
    "choice": lambda constraint: LLMatcher.grammar_from_lark(lark_of_choices(constraint.choices)),
}
