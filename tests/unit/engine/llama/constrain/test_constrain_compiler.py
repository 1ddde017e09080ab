"""Each kind of constraint: what comes out under it, whatever a sampler picks; and what is refused, and how."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from constrain_harness import TinyVocab, write_answer
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import limits
from appliance.calls import Constraint
from appliance.engine.llama.constrain.compiler import GrammarCompiler
from appliance.errors import InvalidArgument

Check = Callable[[Any], bool]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyVocab:
    return TinyVocab(tmp_path_factory.mktemp("constrain"))


@pytest.fixture(scope="module")
def compiler(tiny: TinyVocab) -> GrammarCompiler:
    return GrammarCompiler(tiny.vocab)


def schema(value: Any) -> Constraint:
    return Constraint("json_schema", json.dumps(value))


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "role": {"enum": ["nurse", "doctor"]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
LINKED = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"v": {"type": "boolean"}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
            "required": ["v", "next"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}


def is_person(value: Any) -> bool:
    return (
        set(value) <= {"name", "age", "role", "tags"}
        and {"name", "age"} <= set(value)
        and 1 <= len(value["name"]) <= 5
        and type(value["age"]) is int
        and 0 <= value["age"] <= 150
        and value.get("role", "nurse") in {"nurse", "doctor"}
        and all(type(tag) is bool for tag in value.get("tags", []))
        and len(value.get("tags", [])) <= 3
    )


def is_linked(value: Any) -> bool:
    while value is not None:
        if set(value) != {"v", "next"} or type(value["v"]) is not bool:
            return False
        value = value["next"]
    return True


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("value", "check"),
    [
        (PERSON, is_person),
        (LINKED, is_linked),
        (
            {"type": "object", "properties": {"größe": {"const": "½"}}, "required": ["größe"]},
            lambda v: v["größe"] == "½",
        ),
        ({"type": "array", "minItems": 2, "maxItems": 3, "items": {"type": "null"}}, lambda v: 2 <= len(v) <= 3),
        ({"type": "string", "pattern": "^[a-c]{2,4}$"}, lambda v: re.fullmatch("[a-c]{2,4}", v) is not None),
        ({"type": "string", "format": "date"}, lambda v: re.fullmatch(r"\d{4}-\d\d-\d\d", v) is not None),
        (
            {"anyOf": [{"type": "integer", "maximum": 99, "minimum": 1}, {"const": None}]},
            lambda v: v is None or 1 <= v <= 99,
        ),
    ],
)
def test_a_schema(tiny: TinyVocab, compiler: GrammarCompiler, value: Any, check: Check, seed: int) -> None:
    answer = json.loads(write_answer(compiler.compile(schema(value)), tiny.vocab, seed).decode())
    assert check(answer), answer


@pytest.mark.parametrize("seed", range(8))
def test_any_object(tiny: TinyVocab, compiler: GrammarCompiler, seed: int) -> None:
    assert isinstance(json.loads(write_answer(compiler.compile(Constraint("json")), tiny.vocab, seed)), dict)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pattern", [r"[a-z]{1,8}@(one|two)\.example", r"\d{3}/\d{2}", 'say "(ja|nein)"\n', r"é[àü]*"])
def test_a_regular_expression(tiny: TinyVocab, compiler: GrammarCompiler, pattern: str, seed: int) -> None:
    text = write_answer(compiler.compile(Constraint("regex", pattern)), tiny.vocab, seed).decode()
    assert re.fullmatch(pattern, text, re.ASCII)


CHOICES = (
    'he said "no"',
    "two\nlines",
    "日本語 ½",
    "\\back\\slash",
    "a",
    "ab",
    "tab\tdel\x7f nul\x00",
    "</s>{}[]()/#<|im_end|>",
)


@pytest.mark.parametrize("choice", CHOICES)
def test_each_choice_comes_out_exactly(tiny: TinyVocab, compiler: GrammarCompiler, choice: str) -> None:
    mask = compiler.compile(Constraint("choice", choices=(*CHOICES, choice))).start()
    for token in tiny.vocab.tokenize(choice.encode(), add_special=False, parse_special=False):
        assert not mask.complete
        mask.accept(token)
    assert mask.may_end


def test_nothing_but_a_choice_comes_out(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    grammar = compiler.compile(Constraint("choice", choices=CHOICES))
    seen = {write_answer(grammar, tiny.vocab, seed).decode() for seed in range(60)}
    assert seen <= set(CHOICES)
    assert len(seen) > 3


ARITHMETIC = 'start: sum\nsum: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]{1,3}/\n'
GBNF = 'root ::= item ("," item)*\nitem ::= [a-c]+ | "-" # comment\n'


@pytest.mark.parametrize("seed", range(4))
def test_grammars(tiny: TinyVocab, compiler: GrammarCompiler, seed: int) -> None:
    text = write_answer(compiler.compile(Constraint("lark", ARITHMETIC)), tiny.vocab, seed, haste=1).decode()
    assert re.fullmatch(r"\d{1,3}(\+\d{1,3})*", text)
    text = write_answer(compiler.compile(Constraint("gbnf", GBNF)), tiny.vocab, seed, haste=1).decode()
    assert re.fullmatch(r"([a-c]+|-)(,([a-c]+|-))*", text)


def test_a_grammar_of_ours_may_name_control_tokens(tiny: TinyVocab, compiler: GrammarCompiler) -> None:
    mask = compiler.compile_lark('start: <|im_start|> "a" %json {"type": "boolean", "x-guidance": {}}').start()
    start = tiny.vocab.tokenize(b"<|im_start|>", add_special=False, parse_special=True)
    assert len(start) == 1
    mask.accept(start[0])
    assert mask.forced(4) == [ord("a")]


INVALID = "CONSTRAINT_INVALID"
COMPLEX = "CONSTRAINT_TOO_COMPLEX"
DEEP = 10_000
LARK = lambda text: Constraint("lark", text)  # noqa: E731 - short, for the table
REGEX = lambda text: Constraint("regex", text)  # noqa: E731 - short, for the table
BAD = {
    "required but forbidden": (schema({"type": "object", "required": ["a"], "properties": {"a": False}}), INVALID),
    "minimum above maximum": (schema({"type": "integer", "minimum": 5, "maximum": 3}), INVALID),
    "nothing to choose": (schema({"enum": []}), INVALID),
    "nothing is allowed": (Constraint("json_schema", "false"), INVALID),
    "itself, required": (
        schema(
            {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"], "additionalProperties": False}
        ),
        INVALID,
    ),
    "itself at once": (schema({"$ref": "#"}), INVALID),
    "an unsupported keyword": (schema({"not": {"type": "string"}}), INVALID),
    "unique items": (schema({"type": "array", "uniqueItems": True}), INVALID),
    "an old keyword": (schema({"items": {}, "additionalItems": False}), INVALID),
    "items of an old draft": (schema({"items": [{"type": "null"}]}), INVALID),
    "strictness switched off": (schema({"x-guidance": {"lenient": True}, "not": {}}), INVALID),
    "a file": (schema({"$ref": "file:///etc/passwd"}), INVALID),
    "a reference to nothing": (schema({"$ref": "#/$defs/none"}), INVALID),
    "an unknown format": (schema({"type": "string", "format": "colour"}), INVALID),
    "not JSON": (Constraint("json_schema", '{"type": '), INVALID),
    "two values": (Constraint("json_schema", '{}}], "max_tokens": 1} {"a": [{'), INVALID),
    "a list": (Constraint("json_schema", "[]"), INVALID),
    "no schema": (Constraint("json_schema", "  "), INVALID),
    "nested 10,000 deep": (Constraint("json_schema", '{"items":' * DEEP + "{}" + "}" * DEEP), COMPLEX),
    "refers 10,000 deep": (
        schema({"$ref": "#/$defs/0", "$defs": {str(n): {"items": {"$ref": f"#/$defs/{n + 1}"}} for n in range(DEEP)}}),
        COMPLEX,
    ),
    "too many properties": (schema({"properties": {f"p{n}": {} for n in range(1000)}}), COMPLEX),
    "a large schema": (schema({"description": "x" * limits.constraint_bytes_max}), COMPLEX),
    "a large pattern": (schema({"type": "string", "pattern": "a?" * 4096}), COMPLEX),
    "a pattern that repeats": (schema({"type": "string", "pattern": "(a{999}){999}"}), COMPLEX),
    "an expression that matches nothing": (REGEX(r"[^\x00-\U0010ffff]"), INVALID),
    "look-around": (REGEX("(?=a)b"), INVALID),
    "an open bracket": (REGEX("(a"), INVALID),
    "no expression": (REGEX(""), INVALID),
    "half an escape": (REGEX("a\\"), INVALID),
    "a large divisor": (schema({"type": "integer", "multipleOf": 104_729}), COMPLEX),
    "a long divisor": (schema({"type": "number", "multipleOf": 1.23456789}), COMPLEX),
    "many pattern properties": (schema({"patternProperties": {f"^{n}": {} for n in range(30)}}), COMPLEX),
    "patterns upon patterns": (
        schema({"allOf": [{"type": "string", "pattern": f"x{n}"} for n in range(100)]}),
        COMPLEX,
    ),
    "divisors of divisors": (
        schema({"allOf": [{"type": "integer", "multipleOf": n} for n in (7, 11, 13, 17, 19, 23, 29)]}),
        COMPLEX,
    ),
    "many optional parts": (LARK("start: " + "x? " * 2000 + '\nx: "a" | "b" x'), COMPLEX),
    "a lone surrogate": (REGEX("\ud800"), "INVALID_ARGUMENT"),
    "deep brackets": (REGEX("(" * DEEP + ")" * DEEP), COMPLEX),
    "counts of counts": (REGEX("((a{1,100}){1,100}){1,100}"), COMPLEX),
    "stacked counts": (REGEX("a" + "{2}" * 40), COMPLEX),
    "an expression that explodes": (REGEX(r"(\p{L}|\d)?" * 300), COMPLEX),
    "a grammar without start": (LARK('other: "a"'), INVALID),
    "a control token": (LARK('start: "a" <|im_end|> "b"'), INVALID),
    "any token": (LARK("start: <[*]>"), INVALID),
    "a token behind a comment's sign": (LARK('start: "//" <[1]>'), INVALID),
    "a rule cut by tokens": (LARK("start: a\na[max_tokens=2]: /.*/"), INVALID),
    "a rule that the end stops": (LARK('start: a "b"\na[stop=""]: /.*/'), INVALID),
    "options in a grammar's schema": (LARK('start: %json {"x-guidance": {"lenient": true}, "not": {}}'), INVALID),
    "deep groups": (LARK("start: " + "(" * DEEP + '"a"' + ")" * DEEP), COMPLEX),
    "deep schema in a grammar": (LARK("start: %json " + '{"items":' * DEEP + "{}" + "}" * DEEP), COMPLEX),
    "a large grammar": (LARK("start: " + '"a" ' * 20_000), COMPLEX),
    "a rule that is only itself": (LARK("start: start"), INVALID),
    "no root": (Constraint("gbnf", 'other ::= "a"'), INVALID),
    "half a rule": (Constraint("gbnf", 'root ::= ("a"'), INVALID),
    "deep groups in GBNF": (Constraint("gbnf", "root ::= " + "(" * 5000 + '"a"' + ")" * 5000), COMPLEX),
    "a large GBNF": (Constraint("gbnf", 'root ::= "a"' + ' "b"' * 10_000), COMPLEX),
    "no choice": (Constraint("choice"), INVALID),
    "an empty choice": (Constraint("choice", choices=("a", "")), INVALID),
    "too many choices": (Constraint("choice", choices=tuple(map(str, range(2000)))), COMPLEX),
    "large choices": (Constraint("choice", choices=("a" * 50_000,)), COMPLEX),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused(compiler: GrammarCompiler, name: str) -> None:
    constraint, reason = BAD[name]
    began = time.process_time()
    with pytest.raises(InvalidArgument) as raised:
        compiler.compile(constraint)
    assert raised.value.reason == reason
    assert time.process_time() - began < 2
    assert len(raised.value.message) < 400


def test_what_a_refusal_quotes_is_bounded(compiler: GrammarCompiler) -> None:
    with pytest.raises(InvalidArgument) as raised:
        compiler.compile(schema({"type": "string", "format": "secret" * 1000}))
    assert len(raised.value.message) < limits.quoted_chars_max + 100


REFERENCES = 'json.dumps({"$ref": "#/$defs/0", "$defs": {**{str(n): %s for n in range(%d)}, "%d": {"type": "null"}}})'
NEXT = '{"$ref": f"#/$defs/{n + 1}"}'
CHAINS = {
    "references": f'"json_schema", {REFERENCES % (NEXT, 1300, 1300)}',
    "properties": '"json_schema", ' + REFERENCES % (f'{{"properties": {{"x": {NEXT}}}}}', 560, 560),
    "rules": r""""lark", "start: a0" + "".join(f'\na{n}: "x" a{n + 1}' for n in range(1700)) + '\na1700: "y"' """,
    "terminals": r""""lark", "start: A0" + "".join(f'\nA{n}: "x" A{n + 1}' for n in range(1700)) + '\nA1700: "y"' """,
}


@pytest.mark.parametrize("name", CHAINS)
def test_long_chains_do_not_end_the_process(name: str, tmp_path: Any) -> None:
    """The longest that pass the bounds: on an ordinary stack most of these are a segmentation fault."""
    script = (
        "import json, sys, pathlib\n"
        "from constrain_harness import TinyVocab\n"
        "from appliance.calls import Constraint\n"
        "from appliance.engine.llama.constrain.compiler import GrammarCompiler\n"
        "compiler = GrammarCompiler((tiny := TinyVocab(pathlib.Path(sys.argv[1]))).vocab)\n"
        f"compiler.compile(Constraint({CHAINS[name]})).start()\n"
    )
    paths = {"PYTHONPATH": "tests/support"}
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=paths,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr[-500:]


def test_the_same_constraint_is_compiled_once(compiler: GrammarCompiler) -> None:
    assert compiler.compile(schema(PERSON)) is compiler.compile(schema(PERSON))
    assert compiler.compile_lark(ARITHMETIC) is not compiler.compile(LARK(ARITHMETIC))


def test_what_is_kept_is_bounded(tiny: TinyVocab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "grammar_cache_entries_max", 2)
    compiler = GrammarCompiler(tiny.vocab)
    first, second, third = (REGEX(text) for text in ("a", "b", "c"))
    one, two = compiler.compile(first), compiler.compile(second)
    assert compiler.compile(first) is one
    compiler.compile(third)
    assert compiler.compile(first) is one
    assert compiler.compile(second) is not two
    monkeypatch.setattr(limits, "grammar_cache_bytes_max", 1)
    last = compiler.compile(REGEX("d"))
    assert compiler.compile(REGEX("d")) is last
    assert compiler.compile(first) is not one


SCHEMAS = st.recursive(
    st.sampled_from(
        [{"type": "null"}, {"type": "boolean"}, {"type": "integer", "minimum": -5, "maximum": 5}, {"const": "é"}]
    )
    | st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 3)),
    lambda inner: (
        st.builds(lambda i, n: {"type": "array", "items": i, "maxItems": n}, inner, st.integers(0, 2))
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(
            lambda a, b: {
                "type": "object",
                "properties": {"a": a, "b": b},
                "required": ["b"],
                "additionalProperties": False,
            },
            inner,
            inner,
        )
    ),
    max_leaves=5,
)


def valid(value: Any, by: Any) -> bool:
    if "anyOf" in by:
        return any(valid(value, part) for part in by["anyOf"])
    if "const" in by:
        return bool(value == by["const"])
    kind = by["type"]
    if kind == "object":
        return (
            isinstance(value, dict)
            and "b" in value
            and set(value) <= {"a", "b"}
            and all(valid(v, by["properties"][k]) for k, v in value.items())
        )
    if kind == "array":
        return isinstance(value, list) and len(value) <= by["maxItems"] and all(valid(v, by["items"]) for v in value)
    if kind == "string":
        return isinstance(value, str) and len(value) <= by["maxLength"]
    if kind == "integer":
        return type(value) is int and -5 <= value <= 5
    return value is None if kind == "null" else type(value) is bool


@settings(max_examples=40, deadline=None, derandomize=True)
@given(SCHEMAS, st.integers(0, 1000))
def test_answers_to_random_schemas_validate(tiny: TinyVocab, compiler: GrammarCompiler, by: Any, seed: int) -> None:
    answer = json.loads(write_answer(compiler.compile(schema(by)), tiny.vocab, seed).decode())
    assert valid(answer, by), (answer, by)
