"""model.toml of ONNX models: batches, chains, states and facts, each broken rule named with its key."""

import pytest

from appliance.errors import InvalidArgument
from appliance.store import model_toml

TOML = """
name = "press"
version = "1.0.0"
engine = "onnx"
files = [
  { path = "prepare.onnx", role = "preprocess" },
  { path = "model.onnx" },
  { path = "decide.onnx", role = "postprocess" },
  { path = "first.npy", role = "state" },
  { path = "training.json", role = "statistics" },
]
[onnx]
batch_rows_max = 32
batch_rows_preferred = [8, 16]
batch_axes = { h = 1, sr = -1 }
feeds = { x = "scaled" }
providers = ["cuda", "cpu"]
outputs = { y = { unit = "kN", threshold = 1.5, description = "force" } }
[onnx.sequence]
idle_seconds_max = 5
states = [{ input = "h", output = "hn", initial = "first.npy", batch_axis = 1 }, { input = "c", output = "cn" }]
[serving]
class = "latency"
[card]
licence = "Apache-2.0"
source = "https://example.org/model"
intended_use = "tests"
limits = "none"
"""


def test_all_of_it_is_parsed() -> None:
    spec = model_toml.parse(TOML.encode())
    assert spec.onnx.outputs["y"].threshold == 1.5
    assert spec.onnx.sequence.states[0].initial == "first.npy"
    assert spec.onnx.feeds == {"x": "scaled"}
    assert spec.serving.service_class == "latency"


MANY_STATES = ", ".join(f'{{ input = "i{n}", output = "o{n}" }}' for n in range(17))
MANY_FILES = "".join(f'  {{ path = "{n}.onnx", role = "preprocess" }},\n' for n in range(6))

# (what is replaced, by what, what the message must hold)
EDITS = [
    ("batch_rows_max = 32", "batch_rows_max = -1", ["onnx.batch_rows_max: -1 is out of range"]),
    ("batch_rows_max = 32", "batch_wait_us_max = 1000001", ["onnx.batch_wait_us_max: 1000001"]),
    ("[8, 16]", "[16, 8]", ["onnx.batch_rows_preferred: list each size once, in ascending order"]),
    ("[8, 16]", "[8, 8]", ["in ascending order"]),
    ("[8, 16]", "[0, 8]", ["onnx.batch_rows_preferred[0]: 0 is out of range: 1 to 32"]),
    ("[8, 16]", "[8, 33]", ["onnx.batch_rows_preferred[1]: 33 is out of range: 1 to 32"]),
    ("[8, 16]", str(list(range(1, 18))), ["17 sizes, at most 16"]),
    ("sr = -1", "sr = -2", ["onnx.batch_axes.sr: -2 is out of range: -1 to 15"]),
    ("sr = -1", "sr = 16", ["onnx.batch_axes.sr: 16"]),
    ("h = 1,", "h = 0,", ["onnx.sequence.states[0].batch_axis", 'onnx.batch_axes says 0 for "h"']),
    ('"cuda", "cpu"', '"cpu", "cpu"', ["onnx.providers: list each provider once"]),
    ('"cuda", "cpu"', '"gpu"', ["onnx.providers[0]", "allowed: tensorrt, cuda, openvino, cpu"]),
    ('unit = "kN"', f'unit = "{"k" * 65}"', ["onnx.outputs.y.unit: 65 characters, at most 64"]),
    ('unit = "kN"', 'unit = "k\\u001bN"', ["onnx.outputs.y.unit", "unprintable"]),
    ('"force"', f'"{"f" * 1001}"', ["onnx.outputs.y.description: 1001 characters, at most 1000"]),
    ('"force"', '"a\\nb"', ["onnx.outputs.y.description", "one line"]),
    ("threshold = 1.5", "threshold = nan", ["onnx.outputs.y.threshold: nan is not a finite number"]),
    ("threshold = 1.5", "threshold = inf", ["onnx.outputs.y.threshold: inf"]),
    ("threshold = 1.5", 'threshold = "x"', ["onnx.outputs.y.threshold"]),
    ("idle_seconds_max = 5", "idle_seconds_max = 0.5", ["onnx.sequence.idle_seconds_max: 0.5", "1 to 86400"]),
    ("idle_seconds_max = 5", "sequences_max = 65537", ["onnx.sequence.sequences_max: 65537"]),
    ('input = "c"', 'input = "h"', ["onnx.sequence.states[1].input", '"h" belongs to an earlier state']),
    ('output = "cn"', 'output = "hn"', ["onnx.sequence.states[1].output", '"hn" belongs to an earlier state']),
    ('output = "cn"', 'output = ""', ["onnx.sequence.states[1].output: is empty"]),
    ('output = "cn"', 'output = "cn", batch_axis = 16', ["onnx.sequence.states[1].batch_axis: 16"]),
    ('output = "cn"', 'output = "cn", initial = "first.np"', ["states[1].initial", "did you mean first.npy?"]),
    ('output = "cn"', 'output = "cn", initial = "model.onnx"', ["states[1].initial", '"state"']),
    ('{ input = "c", output = "cn" }', MANY_STATES, ["onnx.sequence.states: 18 states, at most 16"]),
    ('"first.npy", role', '"first.bin", role', ["files[3].path", "ends in .npy"]),
    ('"training.json"', '"training.csv"', ["files[4].path", "ends in .json"]),
    ('  { path = "model.onnx" },\n', '  { path = "model.onnx" },\n' + MANY_FILES, ["9 ONNX files", "at most 8"]),
    ("[serving]", "[serving]\ninstances = 0", ["serving.instances: 0"]),
    ('class = "latency"', 'clas = "latency"', ["serving.clas: unknown key, did you mean class?"]),
    ('class = "latency"', 'class = "fast"', ["serving.class", "allowed: latency, throughput"]),
    (
        '  { path = "training.json", role = "statistics" },\n',
        '  { path = "a.json", role = "statistics" },\n  { path = "b.json", role = "statistics" },\n',
        ['at most one file may have the role "statistics"'],
    ),
]


@pytest.mark.parametrize(("old", "new", "says"), EDITS, ids=[f"{i}-{e[2][0][:40]}" for i, e in enumerate(EDITS)])
def test_an_edit_that_breaks_a_rule_is_named(old: str, new: str, says: list[str]) -> None:
    assert old in TOML
    with pytest.raises(InvalidArgument) as caught:
        model_toml.parse(TOML.replace(old, new, 1).encode())
    assert caught.value.reason == "MODEL_TOML"
    for part in says:
        assert part in caught.value.message


def test_feeds_need_a_chain() -> None:
    lines = [line for line in TOML.splitlines() if "prepare.onnx" not in line and "decide.onnx" not in line]
    with pytest.raises(InvalidArgument, match=r"onnx\.feeds: only a chain has feeds"):
        model_toml.parse("\n".join(lines).encode())


def test_a_language_model_has_no_files_of_a_chain() -> None:
    text = 'name = "t"\nversion = "1.0.0"\nengine = "llama"\nfiles = [{ path = "m.gguf" }, { path = "a", role = "state" }]\n'
    with pytest.raises(InvalidArgument, match=r"files\[1\]\.role: a model of the engine llama has no file"):
        model_toml.parse((text + TOML[TOML.index("[card]") :]).encode())
