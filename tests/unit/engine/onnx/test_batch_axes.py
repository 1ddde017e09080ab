"""What model.toml says of batches, held against the model; and which calls make a bucket."""

import types

import numpy as np
import pytest

from appliance import limits
from appliance.engine.onnx.batch_axes import batching
from appliance.engine.onnx.planner import BatchRules
from appliance.errors import InvalidArgument
from appliance.model_spec import OnnxOptions, SequenceOptions, SequenceState
from appliance.types import ModelKind, ModelSignature, TensorSpec


def spec(name, *shape, optional=False, datatype="FP32"):
    return TensorSpec(name, datatype, shape, optional=optional)


def read(inputs, outputs, *, same=True, names=None, zipmaps=(), **options):
    """``same``: the signature's own opinion. ``names``: of the inputs' axes, as the file has them."""
    told = ModelSignature(ModelKind.TENSOR, "onnxruntime_onnx", tuple(inputs), tuple(outputs), batch_axis=same)
    nodes = [
        types.SimpleNamespace(name=s.name, type="", shape=(names or {}).get(s.name, [None] * len(s.shape)))
        for s in inputs
    ]
    return batching(told, nodes, frozenset(zipmaps), OnnxOptions(**options))


X, Y = spec("x", -1, 3), spec("y", -1, 2)


def test_axis_0_where_the_model_says_so():
    told = read([X], [Y])
    assert (told.axes.inputs, told.axes.outputs, told.why) == ({"x": 0}, {"y": 0}, "")
    assert told.rules == BatchRules(limits.batch_rows_default_max)


def test_options():
    told = read([X], [Y], batch_rows_max=8, batch_wait_us_max=250, batch_rows_preferred=(8, 2, 4, 2))
    assert told.rules == BatchRules(8, 250_000, (2, 4, 8))


SILERO = [spec("input", -1, -1), spec("state", 2, -1, 128), spec("sr", datatype="INT64")]
SILERO_OUT = [spec("output", -1, 1), spec("stateN", -1, -1, -1)]


@pytest.mark.parametrize("scalar", [{}, {"sr": -1}])
def test_axes_that_are_named(scalar):
    told = read(SILERO, SILERO_OUT, same=False, batch_axes={"state": 1, "stateN": 1, **scalar})
    assert told.axes.inputs == {"input": 0, "state": 1, "sr": -1}
    assert told.axes.outputs == {"output": 0, "stateN": 1}


def sequence(axis=1):
    return SequenceOptions(states=(SequenceState(input="state", output="stateN", batch_axis=axis),))


def test_axes_of_states_count():
    told = read(SILERO, SILERO_OUT, same=False, sequence=sequence())
    assert told.axes.inputs == {"input": 0, "state": 1, "sr": -1}
    assert told.axes.outputs["stateN"] == 1
    assert read(SILERO, SILERO_OUT, same=False, sequence=sequence(), batch_axes={"state": 1}).axes is not None
    with pytest.raises(InvalidArgument, match=r"gives the state 'state' the axis 0, onnx\.sequence 1: they must be"):
        read(SILERO, SILERO_OUT, same=False, sequence=sequence(), batch_axes={"state": 0})


NO_AXES = {
    "axes with two names": ([X], [Y], {"same": False}, "onnx.batch_axes can"),
    "a fixed input": ([spec("x", 1, 3)], [Y], {"batch_axes": {"y": 0}}, "axis 0 of 'x' has a fixed length"),
    "a fixed output": ([X], [spec("y", 1)], {"batch_axes": {"x": 0}}, "axis 0 of 'y' has a fixed length"),
    "rows nowhere": ([X], [Y], {"batch_axes": {"x": -1}}, "no input has an axis for the rows"),
    "scalars only": ([spec("x")], [Y], {"batch_axes": {"y": 0}}, "no input has an axis for the rows"),
}


@pytest.mark.parametrize(("inputs", "outputs", "options", "words"), NO_AXES.values(), ids=NO_AXES)
def test_axes_that_allow_no_batch(inputs, outputs, options, words):
    for quiet in ("auto", "off"):
        told = read(inputs, outputs, batching=quiet, **options)
        assert told.axes is None
        assert words in told.why
    if options.get("same", True):
        with pytest.raises(InvalidArgument, match="the model with a dynamic first axis") as caught:
            read(inputs, outputs, batching="on", **options)
        assert caught.value.reason == "MODEL_BATCHING"
        assert words in caught.value.message
    else:
        assert read(inputs, outputs, batching="on", **options).axes is not None  # the owner knows better


BAD = {
    "unknown": ({"batch_axes": {"z": 0}}, "names 'z'; the model has 'x', 's', 'y', 'p', 'u'"),
    "too large": ({"batch_axes": {"x": 2}}, "the input 'x' the axis 2, but it has 2 axes: -1 to 1 can be named"),
    "too small": ({"batch_axes": {"x": -2}}, "the axis -2, but it has 2 axes"),
    "fixed": ({"batch_axes": {"y": 1}}, "the output 'y' the axis 1, but it is always 2 long there"),
    "scalar": ({"batch_axes": {"s": 0}}, "the input 's' the axis 0, but it is a scalar: only -1"),
    "maps": ({"batch_axes": {"p": 1}}, "'p' the axis 1, but it is a list of maps, one for each row: its axis is 0"),
    "beyond every rank": ({"batch_axes": {"u": 99}}, "'u' the axis 99"),
    "preferred too large": ({"batch_rows_preferred": (4, 100)}, "names sizes from 4 to 100; 1 to 64"),
    "preferred too small": ({"batch_rows_preferred": (0, 4)}, "names sizes from 0 to 4"),
    "preferred too many": ({"batch_rows_preferred": tuple(range(1, 18))}, "has 17 sizes, at most 16"),
    "preferred over its own bound": ({"batch_rows_preferred": (4,), "batch_rows_max": 3}, "1 to 3"),
}


@pytest.mark.parametrize("mode", ["auto", "on", "off"])
@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_options_that_do_not_fit(options, words, mode):
    inputs, outputs = [X, spec("s")], [Y, spec("p", -1, -1), spec("u")]
    with pytest.raises(InvalidArgument) as caught:
        read(inputs, outputs, zipmaps=("p",), batching=mode, **options)
    assert caught.value.reason == "MODEL_BATCHING"
    assert words in caught.value.message


def zeros(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(("rows", "bucket"), [(1, ()), (5, ()), (0, None)])
def test_the_simple_case(rows, bucket):
    assert read([X], [Y]).axes.measure({"x": zeros(rows, 3)}) == (rows, bucket)


def test_buckets():
    inputs = [spec("x", -1, -1), spec("m", 4, -1, -1), spec("w", -1), spec("o", 1, optional=True)]
    axes = read(inputs, [Y], same=False, batch_axes={"m": 1, "w": -1}).axes

    def measure(x, m, w=(1.0,), **more):
        return axes.measure({"x": zeros(*x), "m": zeros(*m), "w": np.array(w, np.float32), **more})

    base = measure((2, 5), (4, 2, 7))
    assert base[0] == 2
    assert measure((3, 5), (4, 3, 7)) == (3, base[1])
    others = [
        measure((2, 6), (4, 2, 7)),
        measure((2, 5), (4, 2, 8)),
        measure((2, 5), (4, 2, 7), (2.0,)),
        measure((2, 5), (4, 2, 7), (1.0, 1.0)),
        measure((2, 5), (4, 2, 7), o=zeros(1)),
        measure((2, 5), (4, 2, 7), o=zeros(1) + 1),
    ]
    assert len({base[1], *(bucket for _, bucket in others)}) == 7
    assert measure((2, 5), (4, 2, 7), [0.0] * (limits.batch_shared_bytes_max // 4 + 1)) == (2, None)
    assert measure((0, 5), (4, 0, 7)) == (0, None)


def test_zero_and_minus_zero_are_not_the_same_bytes():
    axes = read([X, spec("w", -1)], [Y], same=False, batch_axes={"w": -1}).axes
    one, other = ({"x": zeros(1, 3), "w": np.array([v], np.float32)} for v in (0.0, -0.0))
    assert axes.measure(one) != axes.measure(other)


TWO = [spec("a", -1), spec("b", -1)]
STRICT = {
    "one name": ({"names": {"a": ["N"], "b": ["N"]}}, True),
    "no names": ({}, False),
    "invented names": ({"names": {"a": ["unk__1"], "b": ["unk__1"]}}, False),
    "one of them named": ({"names": {"a": ["N"]}}, False),
    "named by the owner": ({"batch_axes": {"a": 0}}, True),
    "the owner insists": ({"batching": "on"}, True),
}


@pytest.mark.parametrize(("options", "strict"), STRICT.values(), ids=STRICT)
def test_rows_that_disagree(options, strict):
    axes = read(TWO, [spec("y", -1)], **options).axes
    feed = {"a": zeros(2), "b": zeros(3)}
    if not strict:
        assert axes.measure(feed) == (2, None)
        return
    with pytest.raises(InvalidArgument, match="'a' and 'b' must have the same number of rows; they have 2 and 3") as e:
        axes.measure(feed)
    assert e.value.reason == "TENSOR_BATCH_AXIS"


def test_outputs_that_have_not_a_row_for_each():
    axes = read([X], [Y, spec("u"), spec("p", -1, -1)], batch_axes={"u": -1}, zipmaps=("p",)).axes
    good = {"y": zeros(4, 2), "u": zeros(), "p": [{}] * 4}
    assert axes.wrong_output(good, 4) == ""
    assert axes.wrong_output(good | {"y": zeros(1, 2)}, 4) == "y"
    assert axes.wrong_output(good | {"y": zeros()}, 4) == "y"
    assert axes.wrong_output(good | {"p": [{}]}, 4) == "p"
