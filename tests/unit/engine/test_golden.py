"""Golden tests that pass, that fail with what differs, and that can't be run."""

import json
import math

import numpy as np
import pytest

from appliance import limits
from appliance.clock import FakeClock
from appliance.engine.base import LoadOptions
from appliance.engine.golden import run_golden
from appliance.engine.loading import load
from appliance.errors import FailedPrecondition, InvalidArgument
from appliance.model_spec import (
    Card,
    GoldenGeneration,
    GoldenTensor,
    GoldenTest,
    ModelFile,
    ModelSpec,
    Tolerance,
)

CARD = Card(licence="none", source="a test", intended_use="tests", limits="tests")


@pytest.fixture
def run(tmp_path):
    """Runs golden tests on a fake engine with the script ``script``."""

    def run(tests, script=None, files=(), clock=None):
        (tmp_path / "m.json").write_text(json.dumps(script or {}))
        spec = ModelSpec(
            name="m",
            version="1.0.0",
            engine="fake",
            card=CARD,
            golden=tuple(tests),
            files=(ModelFile(path="m.json"), *files),
        )
        return run_golden(load(spec, tmp_path, LoadOptions()), spec, tmp_path, clock)

    return run


def echo(datatype, shape=(-1,)):
    return {"tensors": [{"name": "x", "datatype": datatype, "shape": shape}]}


def test(given, expected, **more):
    return GoldenTest(name="t", inputs={"x": given}, outputs={"out_x": expected}, **more)


test.__test__ = False


def data(*elements, shape=None, datatype=""):
    return GoldenTensor(data=list(elements), shape=shape, datatype=datatype)


EXACT = Tolerance(absolute=0, relative=0)

PASSING = [
    ("FP32", (1.0, math.nan, math.inf, -math.inf), (1.0, math.nan, math.inf, -math.inf), EXACT),
    ("FP32", (1.0,), (1.1,), Tolerance(absolute=0.11, relative=0)),
    ("FP32", (100.0,), (110.0,), Tolerance(absolute=0, relative=0.1)),
    ("FP64", (1.0,), (1.00001,), Tolerance()),
    ("FP16", (1.5,), (1.5,), EXACT),
    ("BF16", (1.5, -2.0), (1.5, -2.0), EXACT),
    ("INT8", (-128, 127), (-128, 127), EXACT),
    ("UINT64", (2**64 - 1,), (2**64 - 1,), EXACT),
    ("BOOL", (True, False), (True, False), EXACT),
    ("BYTES", ("a", "é", ""), ("a", "é", ""), EXACT),
]


@pytest.mark.parametrize(("datatype", "given", "expected", "tolerance"), PASSING)
def test_passes(run, datatype, given, expected, tolerance):
    assert run([test(data(*given), data(*expected), tolerance=tolerance)], echo(datatype)) == ["t"]


FAILING = [
    ("FP32", (1.0, 2.0), (1.0, 2.1), EXACT, r"output 'out_x' at \[1\]: got 2.0, expected 2.09.* \(tolerance 0 \+ 0 x"),
    ("FP32", (1.0,), (1.2,), Tolerance(absolute=0.1, relative=0), r"at \[0\].*tolerance 0.1"),
    ("FP32", (math.nan,), (1.0,), Tolerance(absolute=9), "got nan, expected 1.0"),
    ("FP32", (1.0,), (math.nan,), Tolerance(absolute=9), "got 1.0, expected nan"),
    ("FP32", (1.0,), (math.inf,), Tolerance(), "got 1.0, expected inf"),
    ("FP32", (math.inf,), (-math.inf,), Tolerance(), "got inf, expected -inf"),
    ("FP32", (3e38,), (-3e38,), Tolerance(), "got 3"),
    ("BF16", (1.0,), (2.0,), Tolerance(), "got 1.0, expected 2.0"),
    ("INT32", (5,), (6,), Tolerance(absolute=9), "got 5, expected 6"),
    ("BOOL", (True,), (False,), Tolerance(absolute=9), "got True, expected False"),
    ("BYTES", ("a", "b"), ("a", "c"), Tolerance(absolute=9), r"at \[1\]: got 'b', expected 'c'"),
    ("BYTES", ("a" * 999,), ("c",), Tolerance(), r"got 'aaa.*\.\.\., expected 'c'"),
    ("FP32", (1.0, 2.0), (1.0,), Tolerance(), r"has the shape \[2\], expected \[1\]"),
]


@pytest.mark.parametrize(("datatype", "given", "expected", "tolerance", "words"), FAILING)
def test_fails(run, datatype, given, expected, tolerance, words):
    with pytest.raises(FailedPrecondition, match=words) as caught:
        run([test(data(*given), data(*expected), tolerance=tolerance)], echo(datatype))
    assert caught.value.reason == "GOLDEN_FAILED"
    assert "golden test 't' failed" in caught.value.message


UNRUNNABLE = [
    (GoldenTest(name="t", inputs={"x": data(1.0)}), "expects nothing"),
    (GoldenTest(name="t", inputs={"z": data(1.0)}, outputs={"out_x": data(1.0)}), "input 'z': the model has 'x'"),
    (GoldenTest(name="t", inputs={"x": data(1.0)}, outputs={"z": data(1.0)}), "output 'z': the model has 'out_x'"),
    (test(data(1, datatype="INT8"), data(1.0)), "is FP32, the test says INT8"),
    (test(data("a"), data(1.0)), "not FP32"),
    (test(data(1.0, 2.0, shape=(3,)), data(1.0)), "reshape"),
    (test(GoldenTensor(), data(1.0)), "either data or file"),
    (test(GoldenTensor(data=[1.0], file="a.npy"), data(1.0)), "either data or file"),
    (test(GoldenTensor(file="nowhere.npy"), data(1.0)), 'isn\'t listed with role "golden"'),
]


@pytest.mark.parametrize(("golden", "words"), UNRUNNABLE)
def test_cannot_be_run(run, golden, words):
    with pytest.raises(InvalidArgument, match=words):
        run([golden])


@pytest.mark.parametrize(("datatype", "element"), [("INT8", 300), ("UINT8", -1), ("BYTES", 5), ("INT64", "x")])
def test_elements_that_the_datatype_cannot_hold(run, datatype, element):
    with pytest.raises(InvalidArgument) as caught:
        run([test(data(element), data(element))], echo(datatype))
    assert caught.value.reason == "GOLDEN_INVALID"


@pytest.mark.parametrize(
    ("shape", "elements", "ok"), [((-1, 3), 6, True), ((2, -1), 6, True), ((-1, -1), 6, False), ((-1, 4), 6, False)]
)
def test_the_shape_may_be_left_out_where_the_model_tells_it(run, shape, elements, ok):
    golden = test(data(*range(elements)), data(*range(elements)))
    if ok:
        assert run([golden], echo("FP32", shape)) == ["t"]
    else:
        with pytest.raises(InvalidArgument, match="input 'x'"):
            run([golden], echo("FP32", shape))


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        ("FP32", np.arange(6, dtype=np.float32).reshape(2, 3)),
        ("FP32", np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3))),
        ("FP32", np.arange(6, dtype=">f4").reshape(2, 3)),
        ("BYTES", np.array([["a", "éé"]])),
        ("BYTES", np.array([[b"a", b"bb"]])),
        ("INT64", np.array([[1]])),
    ],
)
def test_arrays_from_files(run, tmp_path, datatype, array):
    np.save(tmp_path / "a.npy", array)
    golden = test(GoldenTensor(file="a.npy"), GoldenTensor(file="a.npy"), tolerance=EXACT)
    assert run([golden], echo(datatype, (-1, -1)), [ModelFile(path="a.npy", role="golden")]) == ["t"]


LYING = b"\x93NUMPY\x01\x00\x45\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }\n"


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"not numpy", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4'", LYING],
)
def test_broken_array_file(run, tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InvalidArgument) as caught:
        run([test(GoldenTensor(file="a.npy"), data(1.0))], files=[ModelFile(path="a.npy", role="golden")])
    assert caught.value.reason == "GOLDEN_INVALID"
    assert str(tmp_path) not in caught.value.message


def test_pickles_are_never_loaded(run, tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidArgument):
        run([test(GoldenTensor(file="a.npy"), data(1.0))], files=[ModelFile(path="a.npy", role="golden")])


LANGUAGE = {"kind": "language"}


@pytest.mark.parametrize(
    ("generation", "words"),
    [
        (GoldenGeneration(prompt="one two three", contains="two three"), ""),
        (GoldenGeneration(user="one two three", matches="^one .*three$"), ""),
        (GoldenGeneration(prompt="one two three", max_tokens=2, matches="^one two$"), ""),
        (GoldenGeneration(prompt="one two", contains="three"), "doesn't contain 'three': got 'one two'"),
        (GoldenGeneration(prompt="one two", matches="^two"), r"doesn't match '\^two': got 'one two'"),
    ],
)
def test_generation(run, generation, words):
    tests = [GoldenTest(name="g", generate=generation)]
    if not words:
        assert run(tests, LANGUAGE) == ["g"]
        return
    with pytest.raises(FailedPrecondition, match=words):
        run(tests, LANGUAGE)


def test_generation_with_a_broken_pattern(run):
    with pytest.raises(InvalidArgument, match="no regular expression"):
        run([GoldenTest(name="g", generate=GoldenGeneration(prompt="a", matches="("))], LANGUAGE)


def test_generation_of_a_tensor_model(run):
    with pytest.raises(FailedPrecondition, match="refused it"):
        run([GoldenTest(name="g", generate=GoldenGeneration(prompt="a", contains="a"))])


def test_an_engine_that_fails(run):
    with pytest.raises(FailedPrecondition, match="the engine failed: this fake engine was told to fail"):
        run([GoldenTest(name="g", generate=GoldenGeneration(prompt="a bad"))], {"kind": "language", "fail_on": "bad"})


class JumpingClock(FakeClock):
    """Each look at it costs forty seconds."""

    def monotonic_ns(self):
        self.advance(40)
        return super().monotonic_ns()


def test_time_is_bounded(run):
    with pytest.raises(FailedPrecondition, match="no answer within 60000 ms"):
        run([GoldenTest(name="g", generate=GoldenGeneration(prompt="a b c d e f"))], LANGUAGE, clock=JumpingClock())


def test_too_many(run):
    with pytest.raises(InvalidArgument, match="at most 64"):
        run([GoldenTest(name="g")] * (limits.golden_tests_max + 1))


def test_none(run):
    assert run([]) == []
