"""`appliance infer`: every kind of input becomes the right bytes, and every bad one is refused before it is sent."""

import json
import struct

import grpc
import numpy as np
import pytest
from daemon_simulator import texts
from hypothesis import given
from hypothesis import strategies as st
from terminal import Typed

from appliance.cli.arrays import decode, encode, to_array
from appliance.cli.exit_codes import CommandFailed, ExitCode


@pytest.fixture
def world(daemon):
    world = daemon.world
    for name in ("iris", "pair", "text"):
        world.add(name, "1.0.0")
    world.inputs = {
        "iris": [("X", "FP32", [-1, 4])],
        "pair": [("a", "INT64", [-1, 1]), ("b", "BOOL", [-1, 1])],
        "text": [("t", "BYTES", [-1])],
    }
    return world


ROW = [5.1, 3.5, 1.4, 0.2]


def sent(world):
    request = world.requests[-1]
    return {
        tensor.name: (tensor.datatype, list(tensor.shape), raw)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


@pytest.mark.parametrize(
    "text",
    [
        {"X": [ROW]},
        {"X": ROW},
        [ROW],
        ROW,
        {"X": [[str(v) for v in ROW]]},
        {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": ROW}]},
        {"inputs": [{"name": "X", "shape": [1, 4], "data": [ROW]}], "outputs": []},
        {"inputs": [{"name": "X", "data": [ROW]}]},
    ],
)
def test_json(ask, world, text):
    done = ask("infer", "iris", json.dumps(text), "--json")
    assert done.code == 0, done.err
    assert sent(world) == {"X": ("FP32", [1, 4], np.array(ROW, "<f4").tobytes())}
    (output,) = done.json["outputs"]
    assert output["name"] == "OUT_X"
    assert output["shape"] == [1, 4]
    assert output["data"] == [pytest.approx(ROW)]


@pytest.mark.parametrize("ending", ["json", "csv", "npy"])
@pytest.mark.parametrize("way", ["file", "named", "stdin", "dash"])
def test_files_and_standard_input(ask, world, tmp_path, ending, way):
    file = tmp_path / f"in.{ending}"
    if ending == "npy":
        np.save(file, np.array([ROW, ROW]))
    else:
        file.write_text(
            json.dumps([ROW, ROW]) if ending == "json" else "a,b,c,d\r\n" + "5.1,3.5,1.4,0.2\r\n" * 2 + "\r\n"
        )
    arguments = {"file": [file], "named": [f"X={file}"], "stdin": [], "dash": ["-"]}[way]
    done = ask("infer", "iris", *arguments, stdin=file.read_bytes())
    assert done.code == 0, done.err
    assert sent(world) == {"X": ("FP32", [2, 4], np.array([ROW, ROW], "<f4").tobytes())}


def test_several_inputs(ask, world, tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1], [-2]], dtype=np.int32))
    (tmp_path / "b.json").write_text("[[true], [false]]")
    assert ask("infer", "pair", f"a={tmp_path / 'a.npy'}", f"b={tmp_path / 'b.json'}").code == 0
    assert sent(world) == {
        "a": ("INT64", [2, 1], struct.pack("<qq", 1, -2)),
        "b": ("BOOL", [2, 1], b"\1\0"),
    }


def test_csv_whose_columns_are_the_inputs(ask, world, tmp_path):
    (tmp_path / "x.csv").write_text("b,a\ntrue,7\n0,9007199254740993\n")
    assert ask("infer", "pair", tmp_path / "x.csv").code == 0
    assert sent(world)["a"] == ("INT64", [2, 1], struct.pack("<qq", 7, 9007199254740993))
    assert sent(world)["b"] == ("BOOL", [2, 1], b"\1\0")


def test_text(ask, world):
    done = ask("infer", "text", '["grün", "", "\\u001b[2J"]', "--json")
    assert texts(sent(world)["t"][2]) == ["grün".encode(), b"", b"\x1b[2J"]
    assert done.json["outputs"][0]["data"] == ["grün", "", "\x1b[2J"]
    assert "\x1b" not in ask("infer", "text", '["\\u001b[2J"]').out


def test_version_outputs_and_parameters(ask, world):
    text = json.dumps(
        {
            "inputs": [{"name": "a", "data": [[1]]}, {"name": "b", "data": [[0]]}],
            "parameters": {"n": 3, "x": 0.5, "on": True, "who": "me"},
        }
    )
    done = ask("infer", "pair", text, "--version", "1.0.0", "--output", "OUT_b", "--json")
    request = world.requests[-1]
    assert request.model_version == "1.0.0"
    assert [o["name"] for o in done.json["outputs"]] == ["OUT_b"]
    assert request.parameters["n"].int64_param == 3
    assert request.parameters["x"].double_param == 0.5
    assert request.parameters["on"].bool_param is True
    assert request.parameters["who"].string_param == "me"


def test_table(ask, world):
    done = ask("infer", "iris", json.dumps([ROW, [1e9, -2, 0, 0.125]]))
    assert max(map(len, done.out.splitlines())) <= 80
    assert "iris 1.0.0" in done.out
    assert "5.1, 3.5, 1.4, 0.2" in done.out
    assert "1e+09, -2, 0, 0.125" in done.out


def test_table_of_many_rows_is_cut_and_says_so(ask, world):
    done = ask("infer", "iris", json.dumps([ROW] * 60))
    assert done.out.count("5.1, 3.5") == 50
    assert "10 more rows" in done.err
    assert len(ask("infer", "iris", json.dumps([ROW] * 60), "--json").json["outputs"][0]["data"]) == 60


def test_table_of_outputs_of_different_lengths(ask, world):
    text = json.dumps({"a": [[1], [2], [3]], "b": [[1]]})
    done = ask("infer", "pair", text)
    assert "OUT_a" in done.out
    assert "1, 2, 3" in done.out


def test_what_json_has_no_word_for(ask, world):
    done = ask("infer", "iris", '[["NaN", "Infinity", -Infinity, 0]]', "--json")
    assert done.json["outputs"][0]["data"] == [["NaN", "Infinity", "-Infinity", 0.0]]


BAD = [
    # model, input, what the message must hold
    ("iris", "{", "is not valid JSON"),
    ("iris", "{}", 'names no input; the model takes "X" (FP32 [-1, 4])'),
    ("iris", '{"Y": [[1]]}', 'the model has no input "Y"; it takes "X"'),
    ("iris", "[[1, 2], [3]]", 'input "X": the rows have different lengths'),
    ("iris", '[["a", 1, 2, 3]]', "input \"X\": 'a' is not a FP32"),
    ("iris", "[[null, 1, 2, 3]]", 'input "X": null is not a FP32'),
    ("iris", '[{"x": 1}]', "or hold objects"),
    ("iris", "[[1e39, 1, 2, 3]]", "a number is too large for FP32"),
    ("pair", '{"a": [[1.5]], "b": [[0]]}', 'input "a" takes whole numbers (INT64)'),
    ("pair", '{"a": [[NaN]], "b": [[0]]}', 'input "a" takes whole numbers (INT64)'),
    ("pair", '{"a": [[9223372036854775808]], "b": [[0]]}', "9223372036854775808 is outside of INT64"),
    ("pair", '{"a": [[1e30]], "b": [[0]]}', "is outside of INT64"),
    ("pair", '{"a": [[' + "9" * 40 + ']], "b": [[0]]}', "a number is too large for INT64"),
    ("pair", '{"a": [[1]], "b": [[2]]}', "only true, false, 1 and 0 are a BOOL"),
    ("pair", "[[1]]", "does not say which input it is; give NAME=FILE"),
    ("text", "[1]", 'input "t" takes text (BYTES), not 1'),
    ("iris", '{"inputs": [{"name": "X"}]}', 'input "X" has no "data"'),
    ("iris", '{"inputs": [{"name": "X", "data": [1], "shape": [-1]}]}', 'the "shape" of input "X"'),
    ("iris", '{"inputs": [{"name": "X", "data": [1], "shape": [true]}]}', 'the "shape" of input "X"'),
    ("iris", '{"inputs": [{"name": "X", "data": [1], "shape": [3]}]}', "1 values do not fill the shape [3]"),
    ("iris", '{"inputs": [{"name": "X", "data": [1], "datatype": "FP8"}]}', "datatype FP8"),
    ("iris", '{"inputs": [{"name": "X", "data": [1]}], "parameters": []}', '"parameters" must be an object'),
    ("iris", '{"inputs": [{"name": "X", "data": [1]}], "parameters": {"p": [1]}}', 'the parameter "p" must be'),
    ("iris", '{"inputs": [{"name": "X", "data": [1]}], "parameters": {"p": 9223372036854775808}}', "64 bits"),
]


@pytest.mark.parametrize(("model", "text", "words"), BAD)
def test_bad_json(ask, world, model, text, words):
    done = ask("infer", model, text)
    assert done.code == ExitCode.INVALID_INPUT
    assert words in done.err
    assert done.err.count("\n") == 1
    assert world.requests == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "standard input is empty"),
        (b" \n", "standard input is empty"),
        (b"\xff\xfe\x00", "neither JSON nor .npy, nor CSV"),
        (b"a,b,c,d\n", "a header line but no rows"),
        (b"a,b,c,d\n1,2,3,4\n1,2,3\n", "row 3 has 3 columns, the header names 4"),
        (b"a,b,c,d\n1,2,3,x\n", "'x' is not a FP32"),
        (b"\x93NUMPY", "damaged"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "damaged"),
        (b"[" * 100_000, "is not valid JSON"),
    ],
)
def test_bad_standard_input(ask, world, data, words):
    done = ask("infer", "iris", "-", stdin=data)
    assert done.code == ExitCode.INVALID_INPUT
    assert words in done.err
    assert world.requests == []


def test_pickled_arrays_are_not_opened(ask, world, tmp_path):
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object))
    done = ask("infer", "iris", tmp_path / "x.npy")
    assert (done.code, "Python objects" in done.err) == (ExitCode.INVALID_INPUT, True)


def test_complex_array(ask, world, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1j, 0, 0, 0]]))
    assert "cannot become FP32" in ask("infer", "iris", tmp_path / "x.npy").err


def test_missing_file(ask, world, tmp_path):
    assert "No such file" in ask("infer", "iris", tmp_path / "none.csv").err
    assert "No such file" in ask("infer", "iris", f"X={tmp_path}/none.npy").err


def test_input_given_twice(ask, world):
    assert 'input "X" is given twice' in ask("infer", "iris", f"[{ROW}]", f"[{ROW}]").err


def test_language_model(ask, world):
    world.add("assistant", "1.0.0", kind="language")
    done = ask("infer", "assistant", "[1]")
    assert (done.code, "use appliance chat assistant" in done.err) == (ExitCode.INVALID_INPUT, True)


def test_unknown_model(ask, world):
    assert ask("infer", "nobody", "[1]").code == ExitCode.NOT_FOUND


def test_refused_by_the_daemon(ask, world):
    world.fail_with = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
    assert ask("infer", "iris", f"[{ROW}]").code == ExitCode.UNAVAILABLE


def test_ctrl_c(daemon, world):
    world.endless = True
    with Typed("infer", "iris", f"[{ROW}]", "--socket", daemon.socket) as person:
        assert world.asked.wait(30)
        person.type("\x03")
        assert person.leaves() == ExitCode.INTERRUPTED
    assert world.cancelled.wait(10)
    assert "Traceback" not in person.seen


TYPES = [
    "BOOL",
    "UINT8",
    "INT8",
    "UINT16",
    "INT16",
    "UINT32",
    "INT32",
    "UINT64",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
]


@pytest.mark.parametrize("datatype", TYPES)
@given(data=st.data())
def test_small_numbers_come_back_whatever_the_type(datatype, data):
    rows = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=3, max_size=3), max_size=4))
    array = to_array("x", rows, datatype).reshape(-1, 3)
    assert decode(encode(array, datatype), datatype, [len(rows), 3]).astype(int).tolist() == rows


@given(st.lists(st.text()))
def test_texts_come_back(items):
    assert decode(encode(to_array("x", items, "BYTES"), "BYTES"), "BYTES", [len(items)]).tolist() == items


@given(st.floats(width=32, allow_nan=False))
def test_bf16_is_the_nearest(value):
    back = decode(encode(to_array("x", [value], "BF16"), "BF16"), "BF16", [1])[0]
    # bfloat16 has 8 bits of significand: half a unit in the last place is 2^-9 of the value, or of the least normal.
    assert back == value or abs(back - value) <= max(abs(value) * 2**-8, 2**-133) or abs(value) > 3.38e38


def test_bf16_keeps_what_is_no_number():
    assert np.isnan(decode(encode(to_array("x", ["nan"], "BF16"), "BF16"), "BF16", [1])[0])
    assert encode(to_array("x", [float("inf")], "BF16"), "BF16") == b"\x80\x7f"
    assert encode(to_array("x", [1.0], "BF16"), "BF16") == b"\x80\x3f"


@pytest.mark.parametrize(
    ("raw", "datatype", "shape"),
    [(b"123", "FP32", [1]), (b"1234", "FP32", [2]), (b"1234", "FP9", [1]), (b"\4\0\0\0ab", "BYTES", [1]), (b"\1", "BYTES", [1]),
     (b"", "BYTES", [1])],
)  # fmt: skip
def test_answers_that_do_not_fit(raw, datatype, shape):
    with pytest.raises(CommandFailed) as caught:
        decode(raw, datatype, shape)
    assert caught.value.exit_code == ExitCode.FAILED
