"""Chains of ONNX files loaded as one model: answers, what is run and what not, errors, labels, batches, BF16, states."""

import logging

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.calls import InferCall, OutputWanted
from appliance.engine.arrays import NUMPY_TYPES
from appliance.engine.base import LoadOptions
from appliance.engine.onnx.chain import Chain
from appliance.engine.onnx.load import load
from appliance.engine.onnx.wiring import Joint
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelFile, OutputFacts, SequenceOptions, SequenceState

FLOAT = TensorProto.FLOAT
PRE = ModelFile(path="pre.onnx", role="preprocess")
POST = ModelFile(path="post.onnx", role="postprocess")


def scale(bench, takes="raw", gives="x", rows="N", by=0.5, kind=FLOAT):
    """[rows, 3] times ``by``; ``mean`` of each row beside it."""
    nodes = [
        helper.make_node("Mul", [takes, "by"], [gives]),
        helper.make_node("ReduceMean", [gives, "one"], ["mean"], keepdims=1),
    ]
    constants = [
        numpy_helper.from_array(np.full((), by, np.float32), "by"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    return bench.graph(
        nodes, [(takes, kind, [rows, 3])], [(gives, kind, [rows, 3]), ("mean", kind, [rows, 1])], constants
    )


def model(bench, rows="batch"):
    """Negates [rows, 3]."""
    return bench.graph(
        [helper.make_node("Neg", ["x"], ["logits"])], [("x", FLOAT, [rows, 3])], [("logits", FLOAT, [rows, 3])]
    )


def softmax(bench, takes="logits"):
    return bench.graph(
        [helper.make_node("Softmax", [takes], ["probabilities"])],
        [(takes, FLOAT, ["M", "C"])],
        [("probabilities", FLOAT, ["M", "C"])],
    )


@pytest.fixture
def chained(bench):
    """Loads a chain; the files of a folder by role."""

    def made(pre=None, main=None, post=None, files=(), **options):
        listed = [*files]
        for data, file in ((pre, PRE), (post, POST)):
            if data is not None:
                (bench.folder / file.path).write_bytes(data)
                listed.append(file)
        return bench.load(main or model(bench), listed, **options)

    return made


def expected(rows):
    logits = -np.asarray(rows, np.float32) * np.float32(0.5)
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def numbers(tensor):
    return np.frombuffer(tensor.data, NUMPY_TYPES[tensor.datatype]).reshape(tensor.shape)


ROWS = [[1.0, 2.0, 3.0], [3.0, 0.0, -3.0]]


def test_three_files_are_one_model(bench, chained):
    engine = chained(scale(bench), None, softmax(bench))
    told = engine.signature()
    assert [(t.name, t.shape) for t in told.inputs] == [("raw", (-1, 3))]
    assert [(t.name, t.shape) for t in told.outputs] == [("probabilities", (-1, 3)), ("mean", (-1, 1))]
    assert told.batch_axis
    got = bench.infer(engine, [bench.tensor("raw", "FP32", ROWS)])
    np.testing.assert_allclose(numbers(got["probabilities"]), expected(ROWS), rtol=1e-5)
    np.testing.assert_allclose(numbers(got["mean"]), [[1], [0]])


def test_feeds_and_classification_with_labels_and_facts(bench, chained):
    (bench.folder / "labels.txt").write_text("scratch\ndent\ngood\n")
    engine = chained(
        scale(bench),
        None,
        softmax(bench, "scores"),
        files=[ModelFile(path="labels.txt", role="labels")],
        feeds={"scores": "logits"},
        labels={"probabilities": "labels.txt"},
        outputs={"probabilities": OutputFacts(unit="probability", threshold=0.5, description="which defect")},
    )
    told = engine.signature().outputs[0]
    assert (told.labels, told.unit, told.threshold) == (("scratch", "dent", "good"), "probability", 0.5)
    assert told.description == "which defect"
    got = bench.infer(engine, [bench.tensor("raw", "FP32", ROWS)], [("probabilities", 2)])["probabilities"]
    rows = np.array(bench.strings(got)).reshape(got.shape)
    assert [text.split(":", 1)[1] for text in rows[0]] == ["0:scratch", "1:dent"]
    assert [text.split(":", 1)[1] for text in rows[1]] == ["2:good", "1:dent"]


def test_calls_that_wait_together_get_their_own_rows_and_classes(bench, chained):
    engine = chained(scale(bench), None, softmax(bench), batching="on")
    replies = []
    for number in range(5):
        reply = bench.reply()
        row = bench.tensor("raw", "FP32", [[number, 0.0, 1.0]])
        outputs = (OutputWanted("probabilities", 1),) if number % 2 else ()
        engine.submit(InferCall(outputs=outputs), [row], reply)
        replies.append(reply)
    engine.step()
    assert engine.stats().execution_count == 1
    for number, reply in enumerate(replies):
        assert reply.error is None
        probabilities = expected([[number, 0.0, 1.0]])
        if number % 2:
            assert bytes(reply.buffers[0])[4:] == f"{probabilities.max():f}:{probabilities.argmax()}".encode()
        else:
            got = np.frombuffer(bytes(reply.buffers[0]), np.float32)
            np.testing.assert_allclose(got, probabilities[0], rtol=1e-5)


def test_files_that_are_not_needed_do_not_run(bench, chained):
    """The second file would fail: its Reshape does not fit. Who only wants the mean never gets there."""
    wanted = numpy_helper.from_array(np.array([7], np.int64), "shape")
    broken = bench.graph(
        [helper.make_node("Reshape", ["x", "shape"], ["logits"])],
        [("x", FLOAT, ["N", 3])],
        [("logits", FLOAT, [7])],
        [wanted],
    )
    engine = chained(scale(bench), broken)
    row = bench.tensor("raw", "FP32", ROWS)
    assert numbers(bench.infer(engine, [row], ["mean"])["mean"]).tolist() == [[1], [0]]
    with pytest.raises(InvalidArgument) as caught:
        bench.infer(engine, [row])
    assert caught.value.reason == "MODEL_RUN_FAILED"


def test_a_failure_names_the_file_in_the_log_only(bench, chained, caplog):
    shape = numpy_helper.from_array(np.array([7], np.int64), "shape")
    post = bench.graph(
        [helper.make_node("Reshape", ["logits", "shape"], ["y"])],
        [("logits", FLOAT, ["N", 3])],
        [("y", FLOAT, [7])],
        [shape],
    )
    engine = chained(None, None, post)
    with caplog.at_level(logging.WARNING), pytest.raises(InvalidArgument) as caught:
        bench.infer(engine, [bench.tensor("x", "FP32", ROWS)])
    assert "Reshape" in caught.value.message
    assert "post.onnx" not in caught.value.message
    assert "the failure is in post.onnx" in caplog.text


@pytest.mark.parametrize(
    ("kind", "columns", "says"),
    [
        (TensorProto.DOUBLE, 3, "takes tensor(float), not tensor(double)"),
        (FLOAT, 4, "[N, 4] doesn't fit [batch, 3]"),
    ],
)
def test_files_that_do_not_fit_together_are_refused_at_load(bench, chained, kind, columns, says):
    shape = ["N", columns]
    negate = helper.make_node("Neg", ["raw"], ["x"])
    with pytest.raises(InvalidArgument) as caught:
        chained(bench.graph([negate], [("raw", kind, shape)], [("x", kind, shape)]))
    assert caught.value.reason == "MODEL_FILE"
    assert says in caught.value.message
    assert "output 'x' of 'pre.onnx' goes to input 'x' of 'm.onnx'" in caught.value.message


@pytest.mark.parametrize("file", [PRE, POST])
def test_a_broken_or_missing_file_of_the_chain(bench, file):
    (bench.folder / "m.onnx").write_bytes(model(bench))
    spec = bench.spec([file])
    with pytest.raises(InvalidArgument, match=f"'{file.path}' is missing"):
        load(spec, bench.folder, LoadOptions())
    (bench.folder / file.path).write_bytes(b"\x08\x0a garbage")
    with pytest.raises(InvalidArgument, match=file.path) as caught:
        load(spec, bench.folder, LoadOptions())
    assert caught.value.reason == "MODEL_CORRUPT"


def test_each_file_of_the_chain_is_kept_inside_the_folder(bench, chained):
    tensor = helper.make_tensor("by", FLOAT, [], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    pre = bench.graph(
        [helper.make_node("Mul", ["raw", "by"], ["x"])], [("raw", FLOAT, ["N", 3])], [("x", FLOAT, ["N", 3])], [tensor]
    )
    with pytest.raises(InvalidArgument, match=r"'pre\.onnx' keeps tensors in") as caught:
        chained(pre)
    assert caught.value.reason == "MODEL_FILE"


def test_more_files_than_are_allowed(bench):
    (bench.folder / "m.onnx").write_bytes(model(bench))
    files = [ModelFile(path=f"{n}.onnx", role="preprocess") for n in range(8)]
    with pytest.raises(InvalidArgument, match="lists 9 ONNX files"):
        load(bench.spec(files), bench.folder, LoadOptions())


def test_bf16_goes_from_file_to_file(bench, chained):
    bf16 = TensorProto.BFLOAT16
    pre = bench.graph(
        [helper.make_node("Cast", ["raw"], ["x"], to=bf16)], [("raw", FLOAT, ["N"])], [("x", bf16, ["N"])]
    )
    main = bench.graph([helper.make_node("Cast", ["x"], ["y"], to=FLOAT)], [("x", bf16, ["N"])], [("y", FLOAT, ["N"])])
    engine = chained(pre, main)
    got = bench.infer(engine, [bench.tensor("raw", "FP32", [1.0, 1.00390625, -3.0])])["y"]
    assert numbers(got).tolist() == [1.0, 1.0, -3.0]


def test_bf16_on_the_way_beside_strings_is_refused(bench, chained):
    bf16 = TensorProto.BFLOAT16
    pre = bench.graph(
        [helper.make_node("Cast", ["raw"], ["x"], to=bf16), helper.make_node("Identity", ["name"], ["tag"])],
        [("raw", FLOAT, ["N"]), ("name", TensorProto.STRING, ["N"])],
        [("x", bf16, ["N"]), ("tag", TensorProto.STRING, ["N"])],
    )
    main = bench.graph([helper.make_node("Cast", ["x"], ["y"], to=FLOAT)], [("x", bf16, ["N"])], [("y", FLOAT, ["N"])])
    with pytest.raises(InvalidArgument, match="add a Cast to FP32") as caught:
        chained(pre, main)
    assert caught.value.reason == "MODEL_UNSUPPORTED"


class Spy:
    """Stands for a session of one input and one output; gives what it got."""

    def __init__(self, takes, gives):
        self.takes, self.gives = takes, gives
        self.got = None

    def get_inputs(self):
        return [Joint(self.takes, "tensor(float)", ["N"])]

    def get_outputs(self):
        return [Joint(self.gives, "tensor(float)", ["N"])]

    def get_overridable_initializers(self):
        return []

    def run(self, names, feed, options):
        self.got = feed[self.takes]
        return [self.got]


def test_tensors_are_handed_on_without_a_copy():
    first, second = Spy("raw", "x"), Spy("x", "y")
    raw = np.ones(3, np.float32)
    (y,) = Chain([first, second], {}).run(["y"], {"raw": raw})
    assert first.got is raw
    assert second.got is raw
    assert y is raw


def test_states_of_two_files_of_a_chain(bench, chained):
    """The first file's output that nobody takes is a state, and so is the model's own."""
    pre = bench.graph(
        [helper.make_node("Concat", ["before", "raw"], ["x"], axis=1), helper.make_node("Identity", ["raw"], ["last"])],
        [("raw", FLOAT, ["N", 1]), ("before", FLOAT, ["N", 1])],
        [("x", FLOAT, ["N", 2]), ("last", FLOAT, ["N", 1])],
    )
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    main = bench.graph(
        [
            helper.make_node("ReduceSum", ["x", "axes"], ["window"]),
            helper.make_node("Add", ["window", "sum"], ["total"]),
        ],
        [("x", FLOAT, ["batch", 2]), ("sum", FLOAT, ["batch", 1])],
        [("window", FLOAT, ["batch", 1]), ("total", FLOAT, ["batch", 1])],
        [axes],
    )
    states = (SequenceState(input="before", output="last"), SequenceState(input="sum", output="total"))
    engine = chained(pre, main, sequence=SequenceOptions(states=states))
    told = engine.signature()
    assert told.sequences
    assert {t.name: t.optional for t in told.inputs} == {"raw": False, "before": True, "sum": True}
    outputs = []
    for number in (1.0, 2.0, 4.0):
        parameters = {"sequence_id": 5, **({"sequence_start": True} if number == 1 else {})}
        got = bench.infer(engine, [bench.tensor("raw", "FP32", [[number]])], parameters=parameters)
        assert list(got) == ["window"]
        outputs.append(numbers(got["window"]).item())
    assert outputs == [1, 3, 6]
    got = bench.infer(engine, [bench.tensor("raw", "FP32", [[0.0]])], ["total"], parameters={"sequence_id": 5})
    assert numbers(got["total"]).item() == 1 + 3 + 6 + 4
    assert engine.stats().sequences == 1
    assert engine.stats().sequence_bytes == 8
