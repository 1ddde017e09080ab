"""Calls in company: each gets, to the byte or as near as floats come, what it gets alone; and the bad input of batches."""

import math

import numpy as np
import pytest
from batch_driver import Request, at_once, each_alone, finish, sizes
from onnx import helper

from appliance import limits
from appliance.clock import FakeClock
from appliance.engine.onnx.engine import OnnxEngine
from appliance.errors import ApplianceError, DeadlineExceeded, InvalidArgument, ResourceExhausted
from appliance.model_spec import OnnxOptions
from appliance.types import Tensor

F = 1  # TensorProto.FLOAT
dice = np.random.default_rng(3)


def node(*args, **attributes):
    return helper.make_node(*args, **attributes)


def weights(name, *shape):
    values = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return helper.make_tensor(name, F, shape, values.tobytes(), raw=True)


def ready(bench, model, *, batching="on", files=(), **options):
    engine = bench.load(model, files, batching=batching, **options)
    engine.warm_up()
    return engine


def floats(name, *shape, scale=1.0):
    array = dice.normal(0, scale, shape).astype(np.float32)
    return Tensor(name, "FP32", array.shape, array.tobytes())


def numbers(answer, name):
    datatype, shape, data = answer[name]
    assert datatype == "FP32"
    return np.frombuffer(data, np.float32).reshape(shape)


# --- which kinds of models answer to the byte, and which don't -------------------------------------------------------


def forest(bench):
    """120 trees of two features that vote on two classes, as skl2onnx writes them: enough for every way the runtime has."""
    count, rng = 120, np.random.default_rng(1)
    shares = rng.random((count, 2)).astype(np.float32) / count
    trees = {
        "nodes_treeids": [t for t in range(count) for _ in range(3)],
        "nodes_nodeids": [0, 1, 2] * count,
        "nodes_featureids": [f for one in rng.integers(0, 2, count).tolist() for f in (one, 0, 0)],
        "nodes_values": [v for one in rng.normal(size=count).tolist() for v in (one, 0.0, 0.0)],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * count,
        "nodes_truenodeids": [1, 0, 0] * count,
        "nodes_falsenodeids": [2, 0, 0] * count,
        "nodes_hitrates": [1.0] * 3 * count,
        "nodes_missing_value_tracks_true": [0] * 3 * count,
        "class_treeids": [t for t in range(count) for _ in range(4)],
        "class_nodeids": [1, 1, 2, 2] * count,
        "class_ids": [0, 1, 0, 1] * count,
        "class_weights": [w for one, two in shares.tolist() for w in (one, two, two, one)],
        "classlabels_strings": ["good", "bad"],
        "post_transform": "NONE",
    }
    made = node("TreeEnsembleClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", **trees)
    return bench.graph(
        [made],
        [("x", F, ["N", 2])],
        [("label", bench.types.STRING, ["N"]), ("p", F, ["N", 2])],
        extra_opsets=[helper.make_opsetid("ai.onnx.ml", 3)],
    )


def chain_of(*operators):
    """Element-wise operators on [N, 7]."""

    def build(bench):
        names = ["x", *(f"h{i}" for i in range(len(operators) - 1)), "y"]
        nodes = [node(o, [a], [b]) for o, a, b in zip(operators, names, names[1:], strict=False)]
        return bench.graph(nodes, [("x", F, ["N", 7])], [("y", F, ["N", 7])])

    return build


def scaler(bench):
    made = node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.1, 0.2, 0.3], scale=[1.5, 2.5, 0.3])
    opsets = [helper.make_opsetid("ai.onnx.ml", 3)]
    return bench.graph([made], [("x", F, ["N", 3])], [("y", F, ["N", 3])], extra_opsets=opsets)


def softmax(bench):
    return bench.graph([node("Softmax", ["x"], ["y"], axis=1)], [("x", F, ["N", 33])], [("y", F, ["N", 33])])


def normalised(bench):
    made = node("LayerNormalization", ["x", "s", "b"], ["y"], axis=-1)
    return bench.graph(
        [made], [("x", F, ["N", 48])], [("y", F, ["N", 48])], [weights("s", 48), weights("b", 48)], opset=17
    )


def reduced(bench):
    axes = helper.make_tensor("a", bench.types.INT64, [1], [1])
    return bench.graph(
        [node("ReduceMean", ["x", "a"], ["y"], keepdims=1)], [("x", F, ["N", 50])], [("y", F, ["N", 1])], [axes]
    )


def largest(bench):
    axes = helper.make_tensor("a", bench.types.INT64, [1], [1])
    return bench.graph(
        [node("ReduceMax", ["x", "a"], ["y"], keepdims=1)], [("x", F, ["N", 50])], [("y", F, ["N", 1])], [axes]
    )


def convolution(bench):
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("GlobalAveragePool", ["r"], ["y"]),
    ]
    weight = [weights("w", 8, 3, 3, 3), weights("b", 8)]
    return bench.graph(nodes, [("x", F, ["N", 3, 12, 12])], [("y", F, ["N", 8, 1, 1])], weight)


def pooled(bench):
    nodes = [
        node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n"]),
        node("MaxPool", ["n"], ["y"], kernel_shape=[2, 2]),
    ]
    variance = helper.make_tensor("v", F, [3], [1.0, 2.0, 3.0])
    return bench.graph(
        nodes,
        [("x", F, ["N", 3, 7, 7])],
        [("y", F, ["N", 3, 6, 6])],
        [weights("s", 3), weights("b", 3), weights("m", 3), variance],
    )


def regression(bench):
    made = node("LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", coefficients=[0.3, -1.7] * 15, intercepts=[0.1])
    opsets = [helper.make_opsetid("ai.onnx.ml", 1)]
    return bench.graph([made], [("x", F, ["N", 30])], [("y", F, ["N", 1])], extra_opsets=opsets)


def linear(bench):
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "v"], ["y"]),
    ]
    weight = [weights("w", 37, 64), weights("b", 64), weights("v", 64, 5)]
    return bench.graph(nodes, [("x", F, ["N", 37])], [("y", F, ["N", 5])], weight)


def product(bench):
    return bench.graph(
        [node("MatMul", ["x", "w"], ["y"])], [("x", F, ["N", 700])], [("y", F, ["N", 9])], [weights("w", 700, 9)]
    )


def recurrent(bench):
    """Rows lie along axis 1, as in ONNX's LSTM; silero-vad is of this kind."""
    made = node("LSTM", ["x", "w", "r", "", "", "h", "c"], ["", "hn", "cn"], hidden_size=16)
    weight = [weights("w", 1, 64, 10), weights("r", 1, 64, 16)]
    axes = [("x", F, ["T", "N", 10]), ("h", F, [1, "N", 16]), ("c", F, [1, "N", 16])]
    return bench.graph([made], axes, [("hn", F, [1, "N", 16]), ("cn", F, [1, "N", 16])], weight, opset=14)


EXACT = {
    "tree ensemble": (forest, (2,)),
    "arithmetic": (chain_of("Abs", "Sqrt", "Neg", "Reciprocal", "Floor"), (7,)),
    "vectorised functions": (chain_of("Sigmoid", "Tanh", "Erf", "Exp"), (7,)),
    "scaler": (scaler, (3,)),
    "softmax": (softmax, (33,)),
    "layer normalization": (normalised, (48,)),
    "largest of a row": (largest, (50,)),
    "convolution": (convolution, (3, 12, 12)),
    "pooling": (pooled, (3, 7, 7)),
}
NEAR = {
    "Gemm": (linear, (37,)),
    "MatMul": (product, (700,)),
    "LinearRegressor": (regression, (30,)),
    "mean of a row": (reduced, (50,)),
    "other functions": (chain_of("Sin", "Elu", "Softplus", "Log", "Selu"), (7,)),
}
COUNTS = [(1, 1), (1, 2, 3), (1,) * 16, (1,) * 33, (5, 1, 58)]


def same_answers(bench, build, tail, counts):
    engine = ready(bench, build(bench))
    requests = [Request(floats("x", rows, *tail)) for rows in counts]
    alone, before = each_alone(engine, requests), engine.stats().execution_count
    company = at_once(engine, requests)
    assert engine.stats().execution_count == before + 1
    assert sizes(engine)[sum(counts)] >= 1
    return alone, company


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize(("build", "tail"), EXACT.values(), ids=EXACT)
def test_to_the_byte(bench, build, tail, counts):
    alone, company = same_answers(bench, build, tail, counts)
    assert company == alone


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize(("build", "tail"), NEAR.values(), ids=NEAR)
def test_as_near_as_another_order_of_addition_comes(bench, build, tail, counts):
    """No promise of bytes: a matrix product takes another kernel for one row than for several on some processors, sums
    and some functions (Eigen's) take the rest behind the last full vector another way.
    """
    for mine, theirs in zip(*same_answers(bench, build, tail, counts), strict=True):
        got, expected = numbers(theirs, "y"), numbers(mine, "y")
        assert got.shape == expected.shape
        assert np.allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_rows_along_other_axes(bench):
    engine = ready(bench, recurrent(bench), batch_axes=dict.fromkeys(("x", "h", "c", "hn", "cn"), 1))
    counts = (1, 3, 1, 2)
    requests = [Request(floats("x", 4, n, 10), floats("h", 1, n, 16), floats("c", 1, n, 16)) for n in counts]
    alone, company = each_alone(engine, requests), at_once(engine, requests)
    assert sizes(engine) == {1: 2, 3: 1, 2: 1, 7: 1}
    for mine, theirs in zip(alone, company, strict=True):
        for name in ("hn", "cn"):
            assert np.allclose(numbers(theirs, name), numbers(mine, name), rtol=1e-4, atol=1e-6)


# --- buckets ---------------------------------------------------------------------------------------------------------


def test_ragged_inputs_go_with_their_like(bench):
    kind = [("x", F, ["N", "L"])]
    engine = ready(bench, bench.graph([node("Neg", ["x"], ["y"])], kind, [("y", F, ["N", "L"])]))
    requests = [Request(floats("x", 1, length)) for length in (3, 5, 3, 5, 5, 4)]
    company = at_once(engine, requests)
    assert sizes(engine) == {1: 1, 2: 1, 3: 1}
    assert company == each_alone(engine, requests)


def shared(bench):
    """x [N, 3] times a matrix that the call brings, chosen by a string that is no tensor of rows either."""
    return bench.graph(
        [node("Mul", ["x", "w"], ["y"]), node("Identity", ["s"], ["t"])],
        [("x", F, ["N", 3]), ("w", F, [3]), ("s", bench.types.STRING, [])],
        [("y", F, ["N", 3]), ("t", bench.types.STRING, [])],
    )


def test_inputs_without_rows_must_be_the_same_and_outputs_without_rows_go_to_all(bench):
    engine = ready(bench, shared(bench), batch_axes={"w": -1, "s": -1, "t": -1})
    w = [floats("w", 3), floats("w", 3)]
    kinds = [(0, "a"), (0, "b"), (0, "a"), (1, "a"), (0, "a")]
    requests = [Request(floats("x", 1, 3), w[k], bench.tensor("s", "BYTES", s)) for k, s in kinds]
    company = at_once(engine, requests)
    assert sizes(engine) == {1: 2, 3: 1}
    assert company == each_alone(engine, requests)


def test_a_large_input_without_rows_is_not_compared(bench):
    model = bench.graph(
        [node("Mul", ["x", "w"], ["y"])],
        [("x", F, ["N", 1]), ("w", F, [1, "M"])],
        [("y", F, ["N", "M"])],
    )
    engine = ready(bench, model, batch_axes={"w": -1})
    w = floats("w", 1, limits.batch_shared_bytes_max // 4 + 1)
    at_once(engine, [Request(floats("x", 1, 1), w) for _ in range(3)])
    assert sizes(engine) == {1: 3}


def test_an_optional_input_goes_only_with_those_that_have_it(bench):
    default = helper.make_tensor("w", F, [1], [10.0])
    model = bench.graph(
        [node("Mul", ["x", "w"], ["y"])], [("x", F, ["N"]), ("w", F, [1])], [("y", F, ["N"])], [default]
    )
    engine = ready(bench, model)
    two, three = bench.tensor("w", "FP32", [2.0]), bench.tensor("w", "FP32", [3.0])
    requests = [Request(floats("x", 1), *more) for more in ([], [two], [], [two], [three])]
    company = at_once(engine, requests)
    assert sizes(engine) == {1: 1, 2: 2}
    assert company == each_alone(engine, requests)


def test_calls_may_want_different_outputs(bench):
    engine = ready(bench, forest(bench))
    wishes = [(), ("p",), ("label",), (("p", 1),), ("p", "label"), (("label", 0),)]
    requests = [Request(floats("x", 1, 2), outputs=wish) for wish in wishes]
    company = at_once(engine, requests)
    assert sizes(engine) == {6: 1}
    assert company == each_alone(engine, requests)
    assert [list(a) for a in company] == [["label", "p"], ["p"], ["label"], ["p"], ["p", "label"], ["label"]]


@pytest.mark.parametrize("datatype", ["BOOL", "INT8", "UINT64", "FP16", "BF16", "FP64", "BYTES"])
def test_every_kind_of_tensor(bench, datatype):
    kinds = {"FP16": "FLOAT16", "BF16": "BFLOAT16", "FP64": "DOUBLE", "BYTES": "STRING"}
    kind = bench.types.DataType.Value(kinds.get(datatype, datatype))
    engine = ready(bench, bench.identity(kind, ("N", 2)))
    rows = [[["é", ""]], [["", "b"], ["c" * 99, "d"]]] if datatype == "BYTES" else [[[1, 0]], [[0, 1], [1, 1]]]
    requests = [Request(bench.tensor("x", datatype, r)) for r in rows]
    company = at_once(engine, requests)
    assert sizes(engine) == {3: 1}
    assert [a["y"][2] for a in company] == [bytes(r.tensors[0].data) for r in requests]


def zipmap(bench):
    t = bench.types
    kind = helper.make_sequence_type_proto(
        helper.make_map_type_proto(t.INT64, helper.make_tensor_type_proto(t.FLOAT, []))
    )
    made = node("ZipMap", ["x"], ["p"], domain="ai.onnx.ml", classlabels_int64s=[7, -1, 3])
    opsets = [helper.make_opsetid("ai.onnx.ml", 3)]
    return bench.graph([made], [("x", F, ["N", 3])], [helper.make_value_info("p", kind)], extra_opsets=opsets)


def test_zipmaps(bench):
    engine = ready(bench, zipmap(bench), batching="auto")
    assert engine.signature().batch_rows_max
    requests = [Request(floats("x", n, 3), outputs=wish) for n, wish in ((1, ()), (2, ()), (1, (("p", 2),)))]
    company = at_once(engine, requests)
    assert sizes(engine) == {4: 1}
    assert company == each_alone(engine, requests)


def test_large_outputs_are_cut_out_of_one_memory(bench):
    engine = ready(bench, bench.identity(shape=("N", 5000)))
    requests = [Request(floats("x", 1, 5000)) for _ in range(3)]
    replies = [request.submit(engine) for request in requests]
    finish(engine, replies)
    assert sizes(engine) == {3: 1}
    for request, reply in zip(requests, replies, strict=True):
        assert isinstance(reply.buffers[0], memoryview)
        assert reply.buffers[0] == request.tensors[0].data


def test_no_rows_run_alone(bench):
    engine = ready(bench, forest(bench))
    company = at_once(engine, [Request(floats("x", n, 2)) for n in (1, 0, 2)])
    assert company[1]["p"] == ("FP32", (0, 2), b"")
    assert sizes(engine) == {0: 1, 3: 1}


# --- bad input -------------------------------------------------------------------------------------------------------


def lookup(bench):
    """Fails as a whole when one row's index is out of range."""
    return bench.graph(
        [node("Gather", ["w", "i"], ["y"])], [("i", bench.types.INT64, ["N"])], [("y", F, ["N"])], [weights("w", 5)]
    )


@pytest.mark.parametrize("place", [0, 2, 4])
def test_one_poisoned_row_costs_nobody_else(bench, place, caplog):
    engine = ready(bench, lookup(bench))
    requests = [Request(bench.tensor("i", "INT64", [99 if at == place else at])) for at in range(5)]
    replies = [request.submit(engine) for request in requests]
    with caplog.at_level("INFO"):
        steps = finish(engine, replies)
    assert steps == 6  # the batch, then one call a step
    for at, reply in enumerate(replies):
        if at == place:
            assert isinstance(reply.error, InvalidArgument)
            assert reply.error.reason == "MODEL_RUN_FAILED"
        else:
            assert reply.error is None
    stats = engine.stats()
    assert (stats.success_count, stats.fail_count, stats.execution_count) == (4, 1, 4)
    assert "run one by one" in caplog.text
    assert at_once(engine, requests[:place]) == each_alone(engine, requests[:place])


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize(("build", "tail"), [*EXACT.values(), *NEAR.values()], ids=[*EXACT, *NEAR])
def test_nan_and_infinity_stay_in_their_row(bench, build, tail, poison):
    engine = ready(bench, build(bench))
    bad = np.full((1, *tail), poison, np.float32)
    good = [Request(floats("x", 1, *tail)) for _ in range(3)]
    company = at_once(engine, [*good, Request(Tensor("x", "FP32", bad.shape, bad.tobytes()))])
    assert sizes(engine) == {4: 1}
    untouched = at_once(engine, [*good, Request(floats("x", 1, *tail))])
    assert company[:3] == untouched[:3]


def two_inputs(bench, first="N", second="N"):
    return bench.graph(
        [node("Add", ["a", "b"], ["y"])], [("a", F, [first, 2]), ("b", F, [second, 2])], [("y", F, [None, 2])]
    )


@pytest.mark.parametrize("batching", ["auto", "on", "off"])
def test_batch_axes_of_one_call_that_disagree(bench, batching):
    engine = ready(bench, two_inputs(bench), batching=batching)
    with pytest.raises(InvalidArgument) as caught:
        Request(floats("a", 2, 2), floats("b", 3, 2)).submit(engine)
    assert caught.value.reason == "TENSOR_BATCH_AXIS"
    assert caught.value.message == "inputs 'a' and 'b' must have the same number of rows; they have 2 and 3"
    assert not engine.has_work()


def test_axes_without_names_may_disagree_and_then_run_alone(bench):
    """The model may mean to broadcast: nothing says otherwise."""
    engine = ready(bench, two_inputs(bench, None, None), batching="auto")
    assert engine.signature().batch_rows_max
    requests = [Request(floats("a", 3, 2), floats("b", n, 2)) for n in (3, 1, 3)]
    company = at_once(engine, requests)
    assert sizes(engine) == {3: 1, 6: 1}
    assert company == each_alone(engine, requests)


def distinct(bench):
    """As many rows as there are different ones, which its axes don't tell."""
    return bench.graph([node("Unique", ["x"], ["y"], axis=0)], [("x", F, ["N", 3])], [("y", F, [None, 3])])


def test_an_output_without_a_row_for_each_ends_batching_and_answers_stay_right(bench, caplog):
    engine = ready(bench, distinct(bench))
    requests = [Request(bench.tensor("x", "FP32", [[1.0, 2.0, n]] * n)) for n in (2, 1, 3)]
    with caplog.at_level("WARNING"):
        company = at_once(engine, requests)
        again = at_once(engine, requests)
    assert company == again == each_alone(engine, requests)
    assert sizes(engine) == {1: 3, 2: 3, 3: 3}
    assert caplog.text.count("one by one from now on") == 1


def test_huge_rows_are_not_copied_together(bench, monkeypatch):
    monkeypatch.setattr(limits, "batch_bytes_max", 1 << 20)
    engine = ready(bench, bench.identity(shape=("N", "M")))
    requests = [Request(floats("x", 1, 200_000)) for _ in range(3)]  # 800 kB each
    company = at_once(engine, requests)
    assert sizes(engine) == {1: 3}
    assert [a["y"][2] for a in company] == [r.tensors[0].data for r in requests]


def test_more_rows_than_a_batch_may_have_run_alone(bench):
    engine = ready(bench, bench.identity(shape=("N",)), batch_rows_max=4)
    company = at_once(engine, [Request(floats("x", n)) for n in (1, 70_000, 2)])
    assert [a["y"][1] for a in company] == [(1,), (70_000,), (2,)]
    assert sizes(engine) == {1: 1, 131_072: 1, 2: 1}  # counted by powers of two: clients choose that number


def test_an_answer_too_large_costs_only_its_call(bench, monkeypatch):
    engine = ready(bench, bench.identity())
    monkeypatch.setattr(limits, "frame_body_bytes_max", 15)
    small, large, other = at_once(engine, [Request(floats("x", n)) for n in (3, 4, 1)])
    assert isinstance(large, ResourceExhausted)
    assert large.reason == "ANSWER_SIZE"
    assert (small["y"][1], other["y"][1]) == ((3,), (1,))
    assert engine.stats().inference_count == 4


def test_a_full_queue_refuses_unless_somebody_left(bench):
    engine = ready(bench, bench.identity(), queue_max=3)
    replies = [Request(floats("x", 1)).submit(engine) for _ in range(3)]
    with pytest.raises(ResourceExhausted) as caught:
        Request(floats("x", 1)).submit(engine)
    assert caught.value.reason == "QUEUE_FULL"
    replies[1].cancelled = True
    last = Request(floats("x", 1)).submit(engine)
    finish(engine, [replies[0], replies[2], last])
    assert not replies[1].done
    assert engine.stats().cancel_count == 1
    assert sizes(engine) == {3: 1}


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock():
    return FakeClock(monotonic_ns=1_000_000_000)


def timed(bench, clock, **options):
    loaded = bench.load(bench.identity())
    return OnnxEngine(
        loaded._run.__self__,
        loaded.signature(),
        options=OnnxOptions(batching="on", **options),
        clock=clock,
    )


def test_waiting_for_company(bench, clock):
    engine = timed(bench, clock, batch_wait_us_max=500, batch_rows_max=4)
    now = clock.monotonic_ns()
    first = Request(floats("x", 1)).submit(engine, now)
    assert engine.wait_seconds() == 0  # a step has to look first
    engine.step()
    assert not first.done
    assert engine.has_work()
    assert engine.wait_seconds() == pytest.approx(500e-6)
    clock.advance(200e-6)
    assert engine.wait_seconds() == pytest.approx(300e-6)
    second = Request(floats("x", 1)).submit(engine, now + 200_000)
    engine.step()
    assert engine.wait_seconds() == pytest.approx(300e-6)  # the oldest call's time counts
    clock.advance(300e-6)
    assert engine.wait_seconds() == 0
    engine.step()
    assert first.done
    assert second.done
    assert sizes(engine) == {2: 1}
    assert engine.wait_seconds() == 0
    assert engine.stats().queue_ns == 500_000 + 300_000


def test_a_full_batch_does_not_wait(bench, clock):
    engine = timed(bench, clock, batch_wait_us_max=500, batch_rows_max=2)
    replies = [Request(floats("x", 1)).submit(engine, clock.monotonic_ns()) for _ in range(3)]
    engine.step()
    assert [reply.done for reply in replies] == [True, True, False]
    engine.step()
    assert engine.wait_seconds() == pytest.approx(500e-6)


def test_expired_calls_are_answered_without_a_run(bench, clock):
    engine = timed(bench, clock)
    now = clock.monotonic_ns()
    late = Request(floats("x", 1), deadline_ns=now + 1000).submit(engine, now)
    good = Request(floats("x", 1), deadline_ns=now + 10**9).submit(engine, now)
    clock.advance(0.001)
    engine.step()
    assert isinstance(late.error, DeadlineExceeded)
    assert good.error is None
    assert good.done
    assert sizes(engine) == {1: 1}


def test_priority_goes_first(bench, clock):
    engine = timed(bench, clock, batch_rows_max=1)
    order = []
    for name, priority in (("low", 9), ("default", 0), ("high", 1)):
        reply = Request(floats("x", 1), priority=priority).submit(engine, clock.monotonic_ns())
        reply.finish = lambda *_, name=name: order.append(name)
    for _ in range(3):
        engine.step()
    assert order == ["high", "default", "low"]


def test_what_is_counted(bench):
    engine = ready(bench, forest(bench))
    replies = [Request(floats("x", n, 2)).submit(engine) for n in (1, 2, 1)]
    finish(engine, replies)
    stats = engine.stats()
    assert (stats.success_count, stats.inference_count, stats.execution_count) == (3, 4, 1)
    assert (stats.batch_sizes, list(stats.batch_ns)) == ({4: 1}, [4])
    assert [reply.answers[0].batch_rows for reply in replies] == [4, 4, 4]
    computed = replies[0].answers[0].compute_ns
    assert stats.compute_ns == 3 * computed
    assert stats.compute_input_ns > 0
    assert stats.compute_output_ns > 0
    assert stats.compute_input_ns + stats.compute_output_ns + 3 * stats.batch_ns[4] == stats.compute_ns
    assert stats.queue_ns == sum(reply.answers[0].queue_ns for reply in replies)
    assert stats.success_ns == stats.queue_ns + stats.compute_ns
    stats.batch_sizes.clear()
    assert sizes(engine) == {4: 1}  # what is told is a copy


def test_any_mix_of_calls_gets_what_each_gets_alone(bench):
    """Rows, wishes, priorities and poison in any order: the same answer or the same error."""
    engine = ready(bench, lookup(bench), batch_rows_max=7, batch_rows_preferred=(3, 5))
    for seed in range(30):
        chance = np.random.default_rng(seed)
        requests = [
            Request(
                bench.tensor("i", "INT64", chance.integers(0, 6, chance.integers(0, 5))),  # 5 is out of range
                outputs=[(), ("y",), (("y", 1),)][chance.integers(3)],
                priority=int(chance.integers(4)),
            )
            for _ in range(chance.integers(1, 30))
        ]
        for mine, theirs in zip(each_alone(engine, requests), at_once(engine, requests), strict=True):
            if isinstance(mine, ApplianceError):
                assert (type(theirs), theirs.reason) == (type(mine), mine.reason)
            else:
                assert theirs == mine
