"""The mixed load's pure part: requests by metadata, figures of recorded calls, tokens of windows, verdicts."""

import math
import secrets

import numpy as np
import pytest
from bench import mixed
from bench.chats import Chats, tokens_between
from bench.llm_clients import Ask
from bench.llm_load import Call
from bench.metronome import Calls
from bench.mixed_figures import bodies_for, summary_of, verdicts
from bench.payload import InputSpec
from bench.target import BenchError

from appliance.pb.inference import grpc_service_pb2 as pb

STATELESS = [
    InputSpec("input", "FP32", (-1, -1)),
    InputSpec("state", "FP32", (2, -1, 128)),
    InputSpec("sr", "INT64", ()),
]
CHUNKS = [InputSpec("chunk", "FP32", (1, 512))]


def _read(body):
    return pb.ModelInferRequest.FromString(body)


def test_figures_count_from_the_due_time_and_from_the_sending():
    ms = 1_000_000
    due = np.arange(100) * 10 * ms
    late = np.where(np.arange(100) == 99, 5 * ms, 0)
    summary = summary_of(Calls(due, due + late, due + late + 2 * ms, failed=1))
    assert summary.figures == {
        "p50_ms": 2, "p99_ms": 2, "call_p50_ms": 2, "call_p99_ms": 2, "late_p99_ms": 0, "max_ms": 7,
    }  # fmt: skip
    assert summary.errors == {"FAILED": 1}


def test_a_stateless_window_of_sound_carries_its_state():
    bodies = bodies_for("vad", STATELESS, 7)
    assert bodies.first == bodies.middle == bodies.last
    request = _read(bodies.first)
    assert [(one.name, list(one.shape)) for one in request.inputs] == [
        ("input", [1, 576]), ("state", [2, 1, 128]), ("sr", []),
    ]  # fmt: skip
    assert not request.parameters
    assert np.frombuffer(request.raw_input_contents[2], "<i8").tolist() == [16000]


def test_a_stateful_model_gets_a_sequence():
    bodies = bodies_for("vad", CHUNKS, 7)
    read = [_read(body) for body in (bodies.first, bodies.middle, bodies.last)]
    assert {one.parameters["sequence_id"].int64_param for one in read} == {7}
    assert ["sequence_start" in one.parameters for one in read] == [True, False, False]
    assert ["sequence_end" in one.parameters for one in read] == [False, False, True]
    assert all(len(one.raw_input_contents[0]) == 512 * 4 for one in read)


def test_a_row_is_a_row():
    request = _read(bodies_for("forest", [InputSpec("features", "FP32", (-1, 30))], 7).middle)
    assert list(request.inputs[0].shape) == [1, 30]
    assert not request.parameters


def test_an_input_of_another_rank_is_told():
    with pytest.raises(BenchError, match="input 'chunk' has the shape"):
        bodies_for("vad", [InputSpec("chunk", "FP32", (512,))], 7)


def test_tokens_are_those_of_the_window():
    calls = [
        Call(0, arrivals_ns=[10, 20, 30, 40], completion_tokens=8),
        Call(0, arrivals_ns=[15, 45]),
        Call(0),
    ]
    assert tokens_between(calls, 15, 41) == 3 * 2 + 1
    assert tokens_between(calls, 50, 60) == 0


@pytest.mark.parametrize(
    ("ratio", "sense", "expected"),
    [(1.4, "<=", "met"), (1.6, "<=", "missed"), (0.95, ">=", "missed"), (math.nan, "<=", "not measured")],
)
def test_verdicts(ratio, sense, expected):
    target = 1.5 if sense == "<=" else 0.96
    assert verdicts({"p99": ratio}, {"p99": (sense, target)})[0].endswith(expected)


def test_chats_go_on_until_the_block_is_left(talking, tmp_path):
    with Chats(f"unix:{tmp_path}/s.sock", Ask("m", max_tokens=8), 3, secrets.token_hex(2)) as chats:
        pass
    assert len(chats.calls) >= 3
    assert all(not call.error for call in chats.calls)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [(["--rounds", "0"], "--rounds must be above 0"), (["--seconds", "-1"], "--seconds must be above 0")],
)
def test_options_that_make_no_sense_are_told(options, complaint, capsys):
    assert mixed.main(options) == 2
    assert complaint in capsys.readouterr().err
