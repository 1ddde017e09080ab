"""Stateful models through the whole ONNX engine: sums that go on, in one batch with others, and what goes wrong."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from appliance.calls import InferCall, OutputWanted
from appliance.errors import ApplianceError, Code, InvalidArgument
from appliance.model_spec import SequenceOptions, SequenceState
from appliance.tensor_heads import split_body

FLOAT = TensorProto.FLOAT
STATE = SequenceState(input="h", output="hn", batch_axis=1)


def sums(bench, columns=2):
    """``y`` [N, 2]: the sum of all ``x`` [N, 2] of the sequence so far; the state [1, N, 2] has its rows on axis 1."""
    axis = numpy_helper.from_array(np.array([0], np.int64), "axis")
    nodes = [
        helper.make_node("Squeeze", ["h", "axis"], ["before"]),
        helper.make_node("Add", ["before", "x"], ["y"]),
        helper.make_node("Unsqueeze", ["y", "axis"], ["hn"]),
    ]
    takes = [("x", FLOAT, ["N", columns]), ("h", FLOAT, [1, "N", 2])]
    return bench.graph(nodes, takes, [("y", FLOAT, ["N", 2]), ("hn", FLOAT, [1, "N", 2])], [axis])


@pytest.fixture
def engine(bench):
    options = SequenceOptions(states=(STATE,), idle_seconds_max=5, sequences_max=10_000)
    made = bench.load(sums(bench), queue_max=10_000, batching="on", sequence=options)
    made.warm_up()
    return made


class Line:
    """A client that sends rows and remembers its answers."""

    def __init__(self, bench, engine, client="a"):
        self.bench, self.engine, self.client = bench, engine, client

    def send(self, identity, rows, outputs=(), *, start=False, end=False, **call):
        parameters = {"sequence_id": identity, "sequence_start": start, "sequence_end": end}
        reply = self.bench.reply()
        wanted = tuple(OutputWanted(name) for name in outputs)
        call = InferCall(parameters=parameters, client=self.client, outputs=wanted, **call)
        self.engine.submit(call, [self.bench.tensor("x", "FP32", rows)], reply)
        return reply

    def run(self):
        while self.engine.has_work():
            self.engine.step()


def answer(reply):
    if reply.error:
        raise reply.error
    body = memoryview(b"".join(reply.buffers))
    tensors = split_body(reply.answers[0].tensors, body)
    return {t.name: np.frombuffer(t.data, np.float32).reshape(t.shape).tolist() for t in tensors}


def test_what_the_signature_says(engine):
    told = engine.signature()
    assert told.sequences
    assert {t.name: t.optional for t in told.inputs} == {"x": False, "h": True}
    assert [t.name for t in told.outputs] == ["y", "hn"]


def test_calls_of_one_sequence_in_flight_at_once_run_in_order(bench, engine):
    line = Line(bench, engine)
    replies = [line.send(1, [[n, 1]], start=n == 1, priority=5 - n) for n in range(1, 5)]
    line.run()
    assert [answer(r) for r in replies] == [{"y": [[s, n]]} for n, s in ((1, 1), (2, 3), (3, 6), (4, 10))]
    assert engine.stats().execution_count == 4


def test_calls_of_many_sequences_run_together(bench, engine):
    lines = [Line(bench, engine, client) for client in "abcdefgh"]
    for turn in range(4):
        replies = [line.send(7, [[n, turn]], start=turn == 0) for n, line in enumerate(lines)]
        lines[0].run()
        for n, reply in enumerate(replies):
            assert answer(reply)["y"] == [[n * (turn + 1), turn * (turn + 1) / 2]]
    stats = engine.stats()
    assert (stats.execution_count, stats.inference_count) == (4, 32)
    assert (stats.sequences, stats.sequence_bytes) == (8, 64)


def test_sequences_of_several_rows_and_calls_that_bring_their_state_in_one_batch(bench, engine):
    line = Line(bench, engine)
    line.send(1, [[1, 1], [2, 2]], start=True)
    line.send(2, [[5, 5]], start=True)
    line.run()
    first, second = line.send(1, [[1, 0], [1, 0]]), line.send(2, [[1, 0]])
    own = bench.reply()
    state = bench.tensor("h", "FP32", [[[10, 10]]])
    engine.submit(InferCall(), [bench.tensor("x", "FP32", [[1, 1]]), state], own)
    line.run()
    assert answer(first) == {"y": [[2, 1], [3, 2]]}
    assert answer(second) == {"y": [[6, 5]]}
    assert answer(own) == {"y": [[11, 11]], "hn": [[[11, 11]]]}


def test_a_state_is_given_to_who_names_it(bench, engine):
    line = Line(bench, engine)
    reply = line.send(1, [[1, 2]], ["hn"], start=True)
    line.run()
    assert answer(reply) == {"hn": [[[1, 2]]]}


def refused(reason, line, *args, **kwargs):
    with pytest.raises(ApplianceError) as caught:
        line.send(*args, **kwargs)
    assert caught.value.reason == reason
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_a_sequence_without_start(bench, engine):
    refused("SEQUENCE_UNKNOWN", Line(bench, engine), 1, [[1, 1]])
    assert not engine.has_work()


def test_bad_input_of_a_start_begins_nothing(bench, engine):
    line = Line(bench, engine)
    refused("TENSOR_SHAPE", line, 1, [[1, 1, 1]], start=True)
    refused("TENSOR_NAME", line, 1, [[1, 1]], ["z"], start=True)
    assert engine.stats().sequences == 0


def test_without_a_sequence_the_state_must_come(bench, engine):
    with pytest.raises(InvalidArgument, match="lacks the input 'h'"):
        bench.infer(engine, [bench.tensor("x", "FP32", [[1, 1]])])


def test_two_clients_on_one_sequence_are_two(bench, engine):
    one, other = Line(bench, engine, "one"), Line(bench, engine, "other")
    one.send(1, [[1, 1]], start=True)
    refused("SEQUENCE_UNKNOWN", other, 1, [[1, 1]])
    other.send(1, [[5, 5]], start=True)
    one.run()
    replies = one.send(1, [[1, 1]]), other.send(1, [[1, 1]])
    one.run()
    assert [answer(r)["y"] for r in replies] == [[[2, 2]], [[6, 6]]]


def test_a_cancelled_call_leaves_the_state_and_a_cancelled_start_nothing(bench, engine):
    line = Line(bench, engine)
    line.send(1, [[1, 1]], start=True)
    line.run()
    line.send(1, [[9, 9]]).cancelled = True
    kept = line.send(1, [[1, 1]])
    line.run()
    assert answer(kept)["y"] == [[2, 2]]
    start, behind = line.send(2, [[1, 1]], start=True), line.send(2, [[1, 1]])
    start.cancelled = True
    line.run()
    assert behind.error.reason == "SEQUENCE_UNKNOWN"
    refused("SEQUENCE_UNKNOWN", line, 2, [[1, 1]])
    assert engine.stats().sequences == 1


def test_a_late_call_leaves_the_state(bench, engine):
    line = Line(bench, engine)
    line.send(1, [[1, 1]], start=True)
    line.run()
    late = line.send(1, [[9, 9]], deadline_ns=1)
    line.run()
    assert late.error.code is Code.DEADLINE_EXCEEDED
    reply = line.send(1, [[1, 1]])
    line.run()
    assert answer(reply)["y"] == [[2, 2]]


@pytest.mark.parametrize("others", [0, 3])
def test_an_answer_that_finds_no_place_leaves_the_state(bench, engine, others):
    line, beside = Line(bench, engine), [Line(bench, engine, client) for client in "bcd"[:others]]
    for each in (line, *beside):
        each.send(1, [[1, 1]], start=True)
    line.run()

    def no_room(_heads, _buffers):
        raise InvalidArgument("no room", reason="SHARED_MEMORY_ROOM")

    full, replies = line.send(1, [[9, 9]]), [each.send(1, [[1, 1]]) for each in beside]
    full.place = no_room
    line.run()
    assert full.error.reason == "SHARED_MEMORY_ROOM"
    assert all(answer(reply)["y"] == [[2, 2]] for reply in replies)
    again = line.send(1, [[1, 1]])
    line.run()
    assert answer(again)["y"] == [[2, 2]]


def test_a_row_that_the_model_fails_on_costs_neither_its_sequence_nor_others(bench):
    """The model takes any number of columns, and fails at all but two."""
    options = SequenceOptions(states=(STATE,))
    engine = bench.load(sums(bench, "W"), batching="on", sequence=options)
    line = Line(bench, engine)
    for identity in (1, 2):
        line.send(identity, [[1, 1]], start=True)
    line.run()
    bad, good = line.send(1, [[1, 1, 1]]), line.send(2, [[1, 1]])
    line.run()
    assert bad.error.reason == "MODEL_RUN_FAILED"
    assert answer(good)["y"] == [[2, 2]]
    after = line.send(1, [[1, 1]])
    line.run()
    assert answer(after)["y"] == [[2, 2]]


def test_nan_stays_in_its_own_sequence(bench, engine):
    line = Line(bench, engine)
    for identity in (1, 2):
        line.send(identity, [[1, 1]], start=True)
    line.run()
    bad, good = line.send(1, [[np.nan, np.inf]]), line.send(2, [[1, 1]])
    line.run()
    assert np.isnan(answer(bad)["y"][0][0])
    assert answer(good)["y"] == [[2, 2]]
    fresh = line.send(1, [[1, 1]], start=True)
    line.run()
    assert answer(fresh)["y"] == [[1, 1]]


def test_ten_thousand_sequences_in_batches(bench, engine):
    line = Line(bench, engine)
    for turn in range(2):
        replies = [line.send(n, [[n, 1]], start=turn == 0) for n in range(1, 10_001)]
        line.run()
    assert all(answer(reply)["y"] == [[2 * n, 2]] for n, reply in zip(range(1, 10_001), replies, strict=True))
    stats = engine.stats()
    assert (stats.sequences, stats.sequence_bytes) == (10_000, 80_000)
    assert stats.execution_count < 400
    with pytest.raises(ApplianceError, match="10000 sequences live") as caught:
        line.send(10_001, [[1, 1]], start=True)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


def test_a_model_without_states_refuses_a_sequence(bench):
    engine = bench.load(bench.identity())
    with pytest.raises(InvalidArgument, match="keeps nothing from one call to the next"):
        bench.infer(engine, [bench.tensor("x", "FP32", [1.0])], parameters={"sequence_id": 3})
    assert not engine.signature().sequences


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sequence": SequenceOptions(states=(SequenceState(input="k", output="hn"),))}, "the model has no 'k'"),
        ({"sequence": SequenceOptions(states=(SequenceState(input="x", output="hn"),))}, "don't fit together"),
        ({"outputs": {"z": {}}}, "onnx.outputs names 'z'; the model gives 'y', 'hn'"),
    ],
)
def test_what_model_toml_says_must_fit_the_model(bench, options, says):
    with pytest.raises(InvalidArgument, match=says) as caught:
        bench.load(sums(bench), **options)
    assert caught.value.reason == "MODEL_FILE"
