"""batching = "auto": what the trial at load finds."""

import itertools

import numpy as np
import pytest
from batch_driver import Request, at_once, each_alone, sizes
from onnx import helper

from appliance import limits
from appliance.engine.onnx import batch_trial
from appliance.engine.onnx.batch_axes import batching
from appliance.engine.onnx.batch_trial import Trial
from appliance.errors import InvalidArgument
from appliance.model_spec import OnnxOptions
from appliance.types import ModelKind, ModelSignature, TensorSpec

F = 1


def node(*args, **attributes):
    return helper.make_node(*args, **attributes)


def plain(bench):
    return bench.graph([node("Exp", ["x"], ["y"])], [("x", F, ["N", 3])], [("y", F, ["N", 3])])


def normalised_over_the_batch(bench):
    axes = helper.make_tensor("a", bench.types.INT64, [1], [0])
    nodes = [node("ReduceMean", ["x", "a"], ["m"]), node("Sub", ["x", "m"], ["y"])]
    return bench.graph(nodes, [("x", F, ["N", 3])], [("y", F, ["N", 3])], [axes])


def quantised_by_the_largest(bench):
    """As quantize_dynamic writes it: the scale is that of all rows together."""
    weight = helper.make_tensor("w", bench.types.INT8, [8, 4], np.arange(-16, 16, dtype=np.int8).tobytes(), raw=True)
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z"], ["i"]),
        node("Cast", ["i"], ["f"], to=F),
        node("Mul", ["f", "s"], ["y"]),
    ]
    return bench.graph(nodes, [("x", F, ["N", 8])], [("y", F, ["N", 4])], [weight])


def first_row_for_all(bench):
    zero = helper.make_tensor("i", bench.types.INT64, [1], [0])
    nodes = [
        node("Gather", ["x", "i"], ["r"], axis=0),
        node("Mul", ["x", "o"], ["n"]),
        node("Add", ["r", "n"], ["y"]),
    ]
    nothing = helper.make_tensor("o", F, [1], [0.0])
    return bench.graph(nodes, [("x", F, ["N", 3])], [("y", F, ["N", 3])], [zero, nothing])


def ranks(bench):
    """Integers: the place of each row's number among all."""
    nodes = [
        node("Shape", ["x"], ["k"]),
        node("TopK", ["x", "k"], ["v", "y"], axis=0, largest=1),
    ]
    return bench.graph(nodes, [("x", F, ["N"])], [("y", bench.types.INT64, ["N"])])


def only_one_row(bench):
    """Its axis has a name, but it takes one row only."""
    shape = helper.make_tensor("s", bench.types.INT64, [2], [1, 3])
    return bench.graph(
        [node("Reshape", ["x", "s"], ["r"]), node("Add", ["r", "x"], ["y"])],
        [("x", F, ["N", 3])],
        [("y", F, ["N", 3])],
        [shape],
    )


VERDICTS = {
    "rows are rows": (plain, ""),
    "mean over the batch": (normalised_over_the_batch, "output 'y' of a row depends on the rows beside it"),
    "dynamic quantisation": (quantised_by_the_largest, "output 'y' of a row depends on the rows beside it"),
    "the first row for all": (first_row_for_all, "output 'y' of a row depends on the rows beside it"),
    "integers": (ranks, "output 'y' of a row depends on the rows beside it"),
    "one row only": (only_one_row, "the trial on made-up data failed"),
}


@pytest.mark.parametrize(("build", "words"), VERDICTS.values(), ids=VERDICTS)
def test_verdicts(bench, build, words, caplog):
    engine = bench.load(build(bench))
    assert engine.signature().batch_rows_max == 0
    with caplog.at_level("INFO"):
        engine.warm_up()
    assert engine.signature().batch_rows_max == (0 if words else limits.batch_rows_default_max)
    lines = [record.getMessage() for record in caplog.records if "one by one" in record.getMessage()]
    assert len(lines) == bool(words)
    assert not words or words in lines[0]
    tail = engine.signature().inputs[0].shape[1:]
    rng = np.random.default_rng(1)
    requests = [Request(bench.tensor("x", "FP32", rng.normal(size=(1, *tail)))) for _ in range(5)]
    company = at_once(engine, requests)
    assert sizes(engine) == ({1: 5} if words else {5: 1})
    assert company == each_alone(engine, requests)


@pytest.mark.parametrize("build", [plain, normalised_over_the_batch])
def test_on_and_off_ask_nobody(bench, build):
    on, off = (bench.load(build(bench), batching=mode) for mode in ("on", "off"))
    assert on.signature().batch_rows_max == limits.batch_rows_default_max
    for engine in (on, off):
        engine.warm_up()
        at_once(engine, [Request(bench.tensor("x", "FP32", [[1.0, 2.0, 3.0]])) for _ in range(4)])
    assert (sizes(on), sizes(off)) == ({4: 1}, {1: 4})
    assert off.signature().batch_rows_max == 0


def test_on_refuses_a_model_whose_axes_can_not(bench):
    with pytest.raises(InvalidArgument, match="axis 0 of 'x' has a fixed length") as caught:
        bench.load(bench.identity(shape=(1, 3)), batching="on")
    assert caught.value.reason == "MODEL_BATCHING"


def test_one_row_at_most_is_no_batching(bench):
    engine = bench.load(plain(bench), batching="on", batch_rows_max=1)
    assert engine.signature().batch_rows_max == 0


def test_without_warm_up_there_is_no_trial(bench, caplog):
    engine = bench.load(plain(bench), warmup_rows=0)
    with caplog.at_level("INFO"):
        engine.warm_up()
    assert "without warm-up" in caplog.text
    assert engine.signature().batch_rows_max == 0


@pytest.mark.parametrize("kind", ["STRING", "BOOL", "INT32", "UINT8", "FLOAT16", "BFLOAT16", "DOUBLE"])
def test_every_kind_of_tensor_is_tried(bench, kind):
    engine = bench.load(bench.identity(bench.types.DataType.Value(kind), ("N", "M")))
    engine.warm_up()
    assert engine.signature().batch_rows_max


def test_axes_of_the_owner_are_tried_too(bench):
    model = bench.graph([node("Mul", ["x", "w"], ["y"])], [("x", F, [2, "N"]), ("w", F, [])], [("y", F, [2, "N"])])
    engine = bench.load(model, batch_axes={"x": 1, "y": 1})
    engine.warm_up()
    assert engine.signature().batch_rows_max
    wrong = bench.load(normalised_over_the_batch(bench), batch_axes={"x": 0})
    wrong.warm_up()
    assert not wrong.signature().batch_rows_max


def trial(run):
    told = ModelSignature(
        ModelKind.TENSOR,
        "test",
        (TensorSpec("x", "FP32", (-1, 2)),),
        (TensorSpec("y", "FP32", (-1, 2)),),
        batch_axis=True,
    )
    axes = batching(told, (), frozenset(), OnnxOptions()).axes
    return Trial(run, told, frozenset(), axes, 1)


@pytest.mark.parametrize(
    ("row_ms", "run_ms", "words"),
    [
        (1.0, 9.0, ""),  # 8 rows take 17 ms, and 80 alone
        (10.0, 0.5, "8 rows take 80.50 ms together and 10.50 ms each alone: nothing is gained"),
        (0.0, 3000.0, "one run takes 3000 ms, which is too long to try batches out"),
    ],
)
def test_what_does_not_pay(monkeypatch, row_ms, run_ms, words):
    """With a clock of its own: a run takes so long, and each of its rows."""
    now = [0.0]
    runs = itertools.count()
    monkeypatch.setattr(batch_trial.time, "perf_counter_ns", lambda: int(now[0] * 1e6))
    monkeypatch.setattr(batch_trial.time, "process_time_ns", lambda: int(now[0] * 1e6))

    def run(_names, feed):
        next(runs)
        now[0] += run_ms + row_ms * len(feed["x"])
        return [feed["x"]]

    assert words in trial(run).why_not() if words else trial(run).why_not() == ""
    assert next(runs) < 60
    assert now[0] < 6000


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda y: y, True),
        (lambda y: y * np.float32(1 + 1e-6), True),
        (lambda y: y * np.float32(1.01), False),
        (lambda y: np.where(y < 0, np.float32(np.nan), y), False),
        (lambda y: y[:, :1], False),
    ],
)
def test_what_counts_as_the_same(change, same):
    """Only answers to several rows are changed."""

    def run(_names, feed):
        return [change(feed["x"]) if len(feed["x"]) > 2 else feed["x"]]

    why = trial(run).why_not()
    assert ("depends on the rows" not in why) is same


def test_nan_is_the_same_as_nan():
    assert "depends" not in trial(lambda _names, feed: [np.full_like(feed["x"], np.nan)]).why_not()


def test_an_output_that_has_not_a_row_for_each():
    assert "doesn't have a row for each row" in trial(lambda _names, feed: [feed["x"][:1]]).why_not()
