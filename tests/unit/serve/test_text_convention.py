import json
import struct

import pytest

from appliance import frames
from appliance.calls import GenerateCall, OutputWanted, Sampling, TensorHead
from appliance.errors import InvalidArgument
from appliance.serve import bytes_tensor, text_convention
from appliance.serve.text_convention import TextRequest

Given = tuple[str, str, tuple[int, ...], bytes]


def text(name: str, *values: str, shape: tuple[int, ...] | None = None) -> Given:
    return (name, "BYTES", shape or (len(values),), bytes_tensor.pack(v.encode() for v in values))


def read(*tensors: Given, wanted: tuple[OutputWanted, ...] = ()) -> TextRequest:
    heads = [TensorHead(name, datatype, shape, len(data)) for name, datatype, shape, data in tensors]
    return text_convention.read(heads, [t[3] for t in tensors], wanted, 9, 1)


PROMPT = text("text_input", "hi")


def call(**fields: object) -> GenerateCall:
    return GenerateCall(deadline_ns=9, priority=1, prompt="hi", **fields)  # type: ignore[arg-type]


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
    ],
)
def test_read(tensors: list[Given], expected: GenerateCall, stream: bool) -> None:
    assert read(PROMPT, *tensors) == TextRequest(expected, stream)


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
