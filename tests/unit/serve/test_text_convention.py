import json
import struct
from typing import Any

import pytest

from appliance import frames
from appliance.calls import Constraint, GenerateCall, OutputWanted, Sampling
from appliance.errors import InvalidArgument
from appliance.serve import bytes_tensor, text_convention
from appliance.serve.text_convention import TextRequest
from appliance.tensor_heads import TensorHead

Given = tuple[str, str, tuple[int, ...], bytes]


def text(name: str, *values: str, shape: tuple[int, ...] | None = None) -> Given:
    return (name, "BYTES", shape or (len(values),), bytes_tensor.pack(v.encode() for v in values))


def read(*tensors: Given, wanted: tuple[OutputWanted, ...] = ()) -> TextRequest:
    heads = [TensorHead(name, datatype, shape, len(data)) for name, datatype, shape, data in tensors]
    return text_convention.read(heads, [t[3] for t in tensors], wanted, 9, 1)


PROMPT = text("text_input", "hi")


def call(**fields: object) -> GenerateCall:
    return GenerateCall(deadline_ns=9, priority=1, prompt="hi", **fields)  # type: ignore[arg-type]


def constrained(kind: Any, text: str = "", *choices: str) -> GenerateCall:
    return call(constraint=Constraint(kind, text, choices))


@pytest.mark.parametrize(
    ("tensors", "expected", "stream"),
    [
        ([], call(), True),
        ([("stream", "BOOL", (1,), b"\0")], call(), False),
        ([("stream", "BOOL", (1, 1), b"\1")], call(), True),
        ([("temperature", "FP32", (1,), struct.pack("<f", 0.5))], call(sampling=Sampling(temperature=0.5)), True),
        ([("temperature", "FP64", (), struct.pack("<d", 0.5))], call(sampling=Sampling(temperature=0.5)), True),
        ([("max_tokens", "INT32", (1,), struct.pack("<i", 7))], call(max_tokens=7), True),
        ([("seed", "UINT64", (1,), struct.pack("<Q", 2**40))], call(sampling=Sampling(seed=2**40)), True),
        ([text("stop", "a", "b")], call(stop=("a", "b")), True),
        (
            [text("sampling_parameters", '{"top_k": 3, "max_tokens": 4, "stop": "x"}')],
            call(sampling=Sampling(top_k=3), max_tokens=4, stop=("x",)),
            True,
        ),
        ([text("sampling_parameters", '{"temperature": "0.5"}')], call(sampling=Sampling(temperature=0.5)), True),
        ([("exclude_input_in_output", "BOOL", (1,), b"\1")], call(), True),
        ([("min_tokens", "INT32", (1,), struct.pack("<i", 3))], call(min_tokens=3), True),
        ([("ignore_eos", "BOOL", (1,), b"\1")], call(ignore_eos=True), True),
        ([text("adapter", "legal")], call(adapter="legal"), True),
        ([text("json_schema", '{"type": "object"}')], constrained("json_schema", '{"type": "object"}'), True),
        ([text("regex", "a|b")], constrained("regex", "a|b"), True),
        ([text("grammar", 'root ::= "x"')], constrained("gbnf", 'root ::= "x"'), True),
        ([text("grammar", 'start: "x"')], constrained("lark", 'start: "x"'), True),
        ([text("regex", "x" * 70_000)], constrained("regex", "x" * 70_000), True),
    ],
)
def test_read(tensors: list[Given], expected: GenerateCall, stream: bool) -> None:
    assert read(PROMPT, *tensors) == TextRequest(expected, stream)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{}", call()),
        ('{"min_tokens": 2, "ignore_eos": true}', call(min_tokens=2, ignore_eos=True)),
        ('{"n": 1}', call()),
        ('{"stop_token_ids": [3, 2]}', call(stop_token_ids=(3, 2))),
        ('{"logit_bias": {"20": -100, "3": 0.5}}', call(logit_bias=((3, 0.5), (20, -100.0)))),
        ('{"adapter": "legal"}', call(adapter="legal")),
        ('{"lora_name": "legal"}', call(adapter="legal")),
        # A schema is kept as it was written, its keys in their order.
        ('{"json_schema": {"z": 1, "a":  [true]}}', constrained("json_schema", '{"z": 1, "a":  [true]}')),
        ('{"json_schema": "{\\"z\\": 1}"}', constrained("json_schema", '{"z": 1}')),
        ('{"json_schema": true}', constrained("json_schema", "true")),
        ('{"guided_json": {"type": "object"}}', constrained("json_schema", '{"type": "object"}')),
        ('{"json_object": true}', constrained("json")),
        ('{"json_object": false}', call()),
        ('{"json_object": false, "regex": "a"}', constrained("regex", "a")),
        ('{"guided_json_object": true}', constrained("json")),
        ('{"regex": "a+"}', constrained("regex", "a+")),
        ('{"guided_regex": "a+"}', constrained("regex", "a+")),
        ('{"choices": ["a", "b"]}', constrained("choice", "", "a", "b")),
        ('{"guided_choice": ["a", "b"]}', constrained("choice", "", "a", "b")),
        ('{"grammar": "root ::= x"}', constrained("gbnf", "root ::= x")),
        ('{"guided_grammar": "start: x"}', constrained("lark", "start: x")),
        ('{"lark": "start: x ::= y"}', constrained("lark", "start: x ::= y")),
        ('{"gbnf": "root"}', constrained("gbnf", "root")),
        ('{"temperature": null, "json_schema": null}', call()),
    ],
)
def test_json_options(given: str, expected: GenerateCall) -> None:
    assert read(PROMPT, text("sampling_parameters", given)).call == expected


def test_who_asks() -> None:
    heads = [TensorHead("text_input", "BYTES", (1,), len(PROMPT[3]))]
    assert text_convention.read(heads, [PROMPT[3]], (), 9, 1, "me").call.client == "me"


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ([], "'text_input' is missing"),
        ([PROMPT, PROMPT], "'text_input' is given twice"),
        ([text("text_inputs", "hi")], "no input 'text_inputs', did you mean 'text_input'"),
        ([text("text_input", "a", "b")], "one text a request"),
        ([("text_input", "FP32", (1,), bytes(4))], "has datatype 'FP32', expected BYTES"),
        ([("text_input", "BYTES", (1,), b"\x02\0\0\0\xff\xfe")], "not UTF-8"),
        ([("text_input", "BYTES", (1,), b"\x09\0\0\0a")], "not valid BYTES"),
        ([("text_input", "BYTES", (1,), b"")], "not valid BYTES"),
        ([text("text_input", "x" * (4 * 1024 * 1024 + 1))], "at most 4194304"),
        ([PROMPT, ("stream", "INT32", (1,), bytes(4))], "'stream' has datatype 'INT32', expected BOOL"),
        ([PROMPT, ("stream", "BOOL", (2,), bytes(2))], "has shape"),
        ([PROMPT, ("stream", "BOOL", (1,), bytes(2))], "holds 2 bytes, expected 1"),
        ([PROMPT, ("temperature", "INT32", (1,), bytes(4))], "'temperature' has datatype 'INT32', expected FP32"),
        ([PROMPT, ("max_tokens", "FP32", (1,), bytes(4))], "'max_tokens' has datatype 'FP32', expected INT32"),
        ([PROMPT, ("exclude_input_in_output", "BOOL", (1,), b"\0")], "can only be true"),
        ([PROMPT, text("stop", "")], "a stop string has 0 bytes"),
        ([PROMPT, text("stop", *"abcdefghijklmnopq")], "17 stop strings came, at most 16"),
        ([PROMPT, text("sampling_parameters", "{")], "not valid JSON"),
        ([PROMPT, text("sampling_parameters", "[1]")], "Expected `object`"),
        ([PROMPT, text("sampling_parameters", '{"temprature": 1}')], "'temprature', did you mean 'temperature'"),
        ([PROMPT, text("sampling_parameters", '{"top_k": "many"}')], "top_k"),
        ([PROMPT, text("sampling_parameters", json.dumps({"stop": "x" * 70_000}))], "at most 65536"),
        ([PROMPT, text("sampling_parameters", '{"n": 2}')], "n is not offered here: a request has one text_output"),
        ([PROMPT, text("sampling_parameters", '{"logit_bias": {"the": 1}}')], "logit_bias"),
        ([PROMPT, text("sampling_parameters", '{"logit_bias": {"3": "nan"}}')], "token 3 is nan"),
        ([PROMPT, text("sampling_parameters", '{"stop_token_ids": [-1]}')], "-1, which is no token id"),
        ([PROMPT, text("sampling_parameters", '{"min_tokens": 3, "max_tokens": 2}')], "more than max_tokens"),
        ([PROMPT, text("sampling_parameters", '{"regex": "a", "choices": ["a"]}')], "regex and choices came"),
        ([PROMPT, text("sampling_parameters", '{"regex": "a", "guided_regex": "a"}')], "both 'regex' and 'guided_reg"),
        ([PROMPT, text("sampling_parameters", '{"choices": []}')], "0 choices came"),
        ([PROMPT, text("sampling_parameters", '{"json_schema": ""}')], "'json_schema' is empty"),
        (
            [PROMPT, text("sampling_parameters", '{"json_object": true}'), text("regex", "a")],
            "json_object and regex came",
        ),
        ([PROMPT, text("regex", "x" * 262_145)], "'regex' has 262145 bytes, at most 262144"),
        ([PROMPT, text("adapter", "a" * 97)], "the adapter's name has 97 characters"),
        ([PROMPT, ("temperature", "FP32", (1,), struct.pack("<f", float("nan")))], "temperature is nan"),
        ([PROMPT, ("ignore_eos", "INT32", (1,), bytes(4))], "expected BOOL"),
        (
            [PROMPT, text("sampling_parameters", '{"top_k": 1}'), ("top_k", "INT32", (1,), bytes(4))],
            "'top_k' is given twice",
        ),
    ],
)
def test_refused(tensors: list[Given], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        read(*tensors)


@pytest.mark.parametrize("wanted", [OutputWanted("text"), OutputWanted("text_output", 3)])
def test_other_outputs_are_refused(wanted: OutputWanted) -> None:
    with pytest.raises(InvalidArgument, match="gives only 'text_output'"):
        read(PROMPT, wanted=(wanted,))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ('{"seed": 1' + "0" * 30 + "}", "seed"),
        ('{"max_tokens": "1' + "0" * 30 + '"}', "max_tokens"),
        ('{"x": ' + "[" * 60_000, "'sampling_parameters'"),
        ('{"x": ' + "[" * 30_000 + "]" * 30_000 + "}", "'sampling_parameters'"),
    ],
)
def test_hostile_json_is_the_caller_s_fault(asked: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        frames.encode(read(PROMPT, text("sampling_parameters", asked)).call)
