"""Calls through a loaded ONNX model: every datatype, every bad input, the queue, deadlines and counters."""

import math
import time
import weakref

import numpy as np
import pytest

from appliance import limits
from appliance.calls import GenerateCall, InferCall, OutputWanted
from appliance.clock import FakeClock
from appliance.engine import arrays
from appliance.engine.onnx.engine import OnnxEngine
from appliance.errors import (
    ApplianceError,
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    Unimplemented,
)
from appliance.types import Tensor

VALUES = {
    "BOOL": [True, False, True],
    "UINT8": [0, 1, 255],
    "UINT16": [0, 1, 65535],
    "UINT32": [0, 1, 2**32 - 1],
    "UINT64": [0, 1, 2**64 - 1],
    "INT8": [-128, 0, 127],
    "INT16": [-32768, 0, 32767],
    "INT32": [-(2**31), 0, 2**31 - 1],
    "INT64": [-(2**63), 0, 2**63 - 1],
    "FP16": [-1.5, 0.0, math.inf],
    "BF16": [0x3F80, 0x7FC0, 0xFF80],
    "FP32": [-1.5, math.nan, math.inf],
    "FP64": [1e300, math.nan, -math.inf],
    "BYTES": ["", "été", "a\0b"],
}
ONNX_TYPES = {
    "BOOL": "BOOL", "UINT8": "UINT8", "UINT16": "UINT16", "UINT32": "UINT32", "UINT64": "UINT64", "INT8": "INT8",
    "INT16": "INT16", "INT32": "INT32", "INT64": "INT64", "FP16": "FLOAT16", "BF16": "BFLOAT16", "FP32": "FLOAT",
    "FP64": "DOUBLE", "BYTES": "STRING",
}  # fmt: skip


def identity(bench, datatype="FP32", shape=("N",), **options):
    return bench.load(bench.identity(bench.types.DataType.Value(ONNX_TYPES[datatype]), shape), **options)


@pytest.mark.parametrize("datatype", VALUES)
@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 1, 1)])
def test_each_datatype_comes_back_byte_for_byte(bench, datatype, shape):
    engine = identity(bench, datatype, tuple("ABC"[: len(shape)]))
    engine.warm_up()
    given = bench.tensor("x", datatype, VALUES[datatype], shape)
    got = bench.infer(engine, [given])["y"]
    assert (got.datatype, got.shape, bytes(got.data)) == (datatype, shape, bytes(given.data))


@pytest.mark.parametrize("datatype", VALUES)
def test_no_rows_are_legal(bench, datatype):
    engine = identity(bench, datatype, ("N", 4))
    got = bench.infer(engine, [Tensor("x", datatype, (0, 4), b"")])["y"]
    assert (got.shape, bytes(got.data)) == ((0, 4), b"")


def test_scalar(bench):
    got = bench.infer(identity(bench, "INT64", ()), [bench.tensor("x", "INT64", 7)])["y"]
    assert (got.shape, bytes(got.data)) == ((), (7).to_bytes(8, "little"))


def test_large_output_is_not_copied_in_python(bench):
    engine = identity(bench)
    data = np.arange(150_000, dtype=np.float32)
    reply = bench.reply()
    engine.submit(InferCall(), [Tensor("x", "FP32", data.shape, memoryview(data.tobytes()))], reply)
    engine.step()
    (buffer,) = reply.buffers
    assert isinstance(buffer, memoryview)
    assert buffer == data.tobytes()
    assert reply.answers[0].tensors[0].nbytes == len(buffer) == 600_000


def test_a_tensor_that_begins_at_an_odd_address(bench):
    data = np.arange(5, dtype=np.float64).tobytes()
    got = bench.infer(identity(bench, "FP64"), [Tensor("x", "FP64", (5,), memoryview(b"\0" + data)[1:])])["y"]
    assert bytes(got.data) == data


def test_any_byte_but_zero_is_true(bench):
    got = bench.infer(identity(bench, "BOOL"), [Tensor("x", "BOOL", (3,), b"\x02\x00\xff")])["y"]
    assert bytes(got.data) == b"\1\0\1"


def string(*elements):
    return arrays.encode_elements(elements)


BAD_INPUTS = [
    ("FP32", ("N",), [Tensor("z", "FP32", (1,), b"1234")], "TENSOR_NAME", "no input 'z'; it takes 'x'"),
    ("FP32", ("N",), [], "TENSOR_MISSING", "lacks the input 'x'"),
    ("FP32", ("N",), [Tensor("x", "FP32", (1,), b"1234")] * 2, "TENSOR_NAME", "'x' twice"),
    ("FP32", ("N",), [Tensor("x", "INT32", (1,), b"1234")], "TENSOR_DATATYPE", "'x' is FP32, not INT32"),
    ("FP32", ("N",), [Tensor("x", "BOGUS", (1,), b"1234")], "TENSOR_DATATYPE", "not BOGUS"),
    ("FP32", ("N",), [Tensor("x", "FP32", (1, 1), b"1234")], "TENSOR_SHAPE", "[-1] (-1: any length), not [1, 1]"),
    ("FP32", ("N",), [Tensor("x", "FP32", (), b"1234")], "TENSOR_SHAPE", "not []"),
    ("FP32", ("N", 3), [Tensor("x", "FP32", (1, 2), b"12345678")], "TENSOR_SHAPE", "not [1, 2]"),
    ("FP32", ("N",), [Tensor("x", "FP32", (2,), b"1234567")], "TENSOR_SIZE", "has 7 bytes; 8 were expected"),
    ("FP32", ("N",), [Tensor("x", "FP32", (2,), b"123456789")], "TENSOR_SIZE", "has 9 bytes; 8 were expected"),
    ("FP32", ("N",), [Tensor("x", "FP32", (2,), b"")], "TENSOR_SIZE", "has 0 bytes"),
    ("FP32", ("N",), [Tensor("x", "FP32", (-1,), b"1234")], "TENSOR_SIZE", "negative"),
    ("FP32", ("N", "M"), [Tensor("x", "FP32", (-2, -2), b"x" * 16)], "TENSOR_SIZE", "negative"),
    ("FP32", ("N", "M"), [Tensor("x", "FP32", (0, 2**62), b"")], "TENSOR_SHAPE", "no array can have"),
    ("FP32", ("N",), [Tensor("x", "FP32", (2**62,), b"1234")], "TENSOR_SIZE", "were expected"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (2,), string("a"))], "TENSOR_SIZE", "need at least 8"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (2,), string("abcdefgh"))], "TENSOR_SIZE", "too late"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (1,), b"\xff\0\0\0abc")], "TENSOR_SIZE", "claims 255 bytes, 3 are left"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (1,), b"\xff\xff\xff\xff")], "TENSOR_SIZE", "claims 4294967295"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (1,), string("a", "b"))], "TENSOR_SIZE", "5 bytes follow"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (0,), b"x")], "TENSOR_SIZE", "1 bytes follow"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (2**60,), string("a"))], "TENSOR_SIZE", "need at least"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (-1,), string("a"))], "TENSOR_SHAPE", "negative"),
    ("BYTES", ("N",), [Tensor("x", "BYTES", (2,), string("a", b"b\xff"))], "TENSOR_UTF8", "element 1 is not UTF-8"),
    ("BF16", ("N",), [Tensor("x", "BF16", (2,), b"123")], "TENSOR_SIZE", "has 3 bytes; 4 were expected"),
]


@pytest.mark.parametrize(("datatype", "shape", "tensors", "reason", "words"), BAD_INPUTS)
def test_bad_input_is_refused_at_once_and_the_model_serves_on(bench, datatype, shape, tensors, reason, words):
    engine = identity(bench, datatype, shape)
    with pytest.raises(InvalidArgument) as caught:
        engine.submit(InferCall(), tensors, bench.reply())
    assert caught.value.reason == reason
    assert words in caught.value.message
    assert not engine.has_work()
    good = Tensor("x", datatype, tuple(0 if isinstance(a, str) else a for a in shape), b"")
    assert bench.infer(engine, [good])["y"].shape == good.shape


def two_by_two(bench):
    kind = bench.types.FLOAT
    return bench.graph(
        [bench.helper.make_node("Add", ["a", "b"], ["sum"]), bench.helper.make_node("Sub", ["a", "b"], ["difference"])],
        [("a", kind, ["N"]), ("b", kind, ["M"])],
        [("sum", kind, ["K"]), ("difference", kind, ["K"])],
    )


def test_outputs_in_the_order_asked_for(bench):
    engine = bench.load(two_by_two(bench))
    tensors = [bench.tensor("b", "FP32", [1.0]), bench.tensor("a", "FP32", [3.0])]
    assert list(bench.infer(engine, tensors)) == ["sum", "difference"]
    assert list(bench.infer(engine, tensors, ["difference", "sum"])) == ["difference", "sum"]
    only = bench.infer(engine, tensors, ["difference"])
    assert {n: np.frombuffer(t.data, np.float32).tolist() for n, t in only.items()} == {"difference": [2.0]}


def test_unknown_output(bench):
    with pytest.raises(InvalidArgument, match="no output 'product'; it gives 'sum', 'difference'"):
        bench.infer(
            bench.load(two_by_two(bench)),
            [bench.tensor("a", "FP32", [1.0]), bench.tensor("b", "FP32", [1.0])],
            ["product"],
        )


def test_inputs_that_do_not_fit_together_name_the_operator_and_no_path(bench):
    engine = bench.load(two_by_two(bench))
    with pytest.raises(InvalidArgument) as caught:
        bench.infer(engine, [bench.tensor("a", "FP32", [1.0] * 2), bench.tensor("b", "FP32", [1.0] * 3)])
    assert caught.value.reason == "MODEL_RUN_FAILED"
    assert "operator" in caught.value.message
    assert "/" not in caught.value.message
    assert engine.stats().fail_count == 1
    assert bench.infer(engine, [bench.tensor("a", "FP32", [1.0]), bench.tensor("b", "FP32", [2.0])])


def test_index_out_of_range(bench):
    model = bench.graph(
        [bench.helper.make_node("Gather", ["x", "i"], ["y"])],
        [("x", bench.types.FLOAT, ["N"]), ("i", bench.types.INT64, ["K"])],
        [("y", bench.types.FLOAT, ["K"])],
    )
    with pytest.raises(InvalidArgument, match="Gather"):
        bench.infer(bench.load(model), [bench.tensor("x", "FP32", [1.0]), bench.tensor("i", "INT64", [9])])


def test_optional_input_has_the_default_of_the_file(bench):
    default = bench.helper.make_tensor("w", bench.types.FLOAT, [1], [10.0])
    kind = bench.types.FLOAT
    model = bench.graph(
        [bench.helper.make_node("Mul", ["x", "w"], ["y"])],
        [("x", kind, ["N"]), ("w", kind, [1])],
        [("y", kind, ["N"])],
        [default],
    )
    engine = bench.load(model)
    told = {t.name: t.optional for t in engine.signature().inputs}
    assert told == {"x": False, "w": True}
    x = bench.tensor("x", "FP32", [2.0])
    assert np.frombuffer(bench.infer(engine, [x])["y"].data, np.float32) == 20.0
    assert np.frombuffer(bench.infer(engine, [x, bench.tensor("w", "FP32", [3.0])])["y"].data, np.float32) == 6.0


def test_only_tensor_calls(bench):
    with pytest.raises(Unimplemented, match="takes tensors"):
        identity(bench).submit(GenerateCall(prompt="hello"), [], bench.reply())


@pytest.mark.parametrize("by_model", [True, False])
def test_queue_is_bounded(bench, by_model):
    engine = identity(bench, queue_max=2 if by_model else 0)
    most = 2 if by_model else 128
    for _ in range(most):
        engine.submit(InferCall(), [bench.tensor("x", "FP32", [1.0])], bench.reply())
    assert engine.stats().waiting == most
    with pytest.raises(ResourceExhausted) as caught:
        engine.submit(InferCall(), [bench.tensor("x", "FP32", [1.0])], bench.reply())
    assert caught.value.reason == "QUEUE_FULL"
    engine.step()
    engine.submit(InferCall(), [bench.tensor("x", "FP32", [1.0])], bench.reply())


def with_clock(bench, clock):
    loaded = identity(bench)
    session = loaded._run.__self__
    return OnnxEngine(session, loaded.signature(), clock=clock)


def test_deadline_cancel_and_counters(bench):
    clock = FakeClock(monotonic_ns=1_000_000)
    engine = with_clock(bench, clock)
    late, gone, good, later = (bench.reply() for _ in range(4))
    for reply, deadline in ((late, 1_500_000), (gone, 0), (good, 3_000_000), (later, 0)):
        reply.arrived_ns = 1_000_000
        engine.submit(InferCall(deadline_ns=deadline), [bench.tensor("x", "FP32", [1.0, 2.0])], reply)
    gone.cancelled = True
    clock.advance(0.001)  # 2 ms on the clock
    engine.step()
    assert isinstance(late.error, DeadlineExceeded)
    assert not gone.done
    assert good.done
    assert not good.error
    assert not later.done  # one execution a step
    engine.step()
    assert later.done
    stats = engine.stats()
    assert (stats.success_count, stats.fail_count, stats.cancel_count) == (2, 1, 1)
    assert (stats.inference_count, stats.execution_count, stats.waiting) == (4, 2, 0)
    assert stats.queue_ns == 2_000_000
    assert stats.fail_ns == 1_000_000
    assert not engine.has_work()


def test_answer_carries_its_times(bench):
    engine = identity(bench)
    reply = bench.reply()
    engine.submit(InferCall(), [bench.tensor("x", "FP32", [1.0])], reply)
    before = time.monotonic_ns()
    engine.step()
    done = reply.answers[0]
    assert 0 < done.compute_ns <= time.monotonic_ns() - before
    assert done.queue_ns >= 0
    assert abs(engine.stats().last_inference_ms - time.time() * 1000) < 60_000


def test_warm_up_failure_is_not_fatal(bench, caplog):
    kind = bench.types.FLOAT
    model = bench.graph(  # zeros are no permutation of anything: Gather by an index of N
        [bench.helper.make_node("Gather", ["x", "i"], ["y"])],
        [("x", kind, [0]), ("i", bench.types.INT64, ["K"])],
        [("y", kind, ["K"])],
    )
    engine = bench.load(model)
    with caplog.at_level("INFO"):
        engine.warm_up()
    assert "warm-up on zeros failed" in caplog.text
    with pytest.raises(ApplianceError):
        bench.infer(engine, [bench.tensor("x", "FP32", []), bench.tensor("i", "INT64", [0])])


def test_many_sets_of_outputs_do_not_grow_the_plan_table(bench):
    engine = bench.load(two_by_two(bench))
    tensors = [bench.tensor("a", "FP32", [1.0]), bench.tensor("b", "FP32", [1.0])]
    for k in range(1, 100):
        got = bench.infer(engine, tensors, [("sum", k)])
        assert bench.strings(got["sum"]) == ["2.000000:0"]
    assert len(engine._outputs._plans) == 64
    assert OutputWanted("sum", 1) in {w for plan in engine._outputs._plans for w in plan}


def test_an_output_that_no_memory_can_hold(bench):
    model = bench.graph(
        [bench.helper.make_node("ConstantOfShape", ["n"], ["y"])],
        [("n", bench.types.INT64, [1])],
        [("y", bench.types.FLOAT, ["N"])],
    )
    engine = bench.load(model)
    with pytest.raises(ApplianceError) as caught:
        bench.infer(engine, [bench.tensor("n", "INT64", [2**60])])
    assert caught.value.reason in ("MODEL_MEMORY", "MODEL_RUN_FAILED")
    assert bench.infer(engine, [bench.tensor("n", "INT64", [2])])["y"].shape == (2,)


def test_close_lets_the_session_go(bench):
    engine = identity(bench)
    session = weakref.ref(engine._run.__self__)
    engine.close()
    assert session() is None


def test_outputs_larger_than_an_answer(bench, monkeypatch):
    engine = identity(bench)
    monkeypatch.setattr(limits, "frame_body_bytes_max", 15)
    with pytest.raises(ResourceExhausted, match="outputs have 16 bytes") as caught:
        bench.infer(engine, [bench.tensor("x", "FP32", [1.0] * 4)])
    assert caught.value.reason == "ANSWER_SIZE"
    assert bench.infer(engine, [bench.tensor("x", "FP32", [1.0] * 3)])
