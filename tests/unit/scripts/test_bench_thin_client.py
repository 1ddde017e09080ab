"""The thin client and the metronome against a real gRPC server."""

import time

import numpy as np
import pytest
from bench.metronome import NO_CALLS, Bodies, Calls, Metronome, Window, play
from bench.payload import InputSpec, build_request
from bench.target import BenchError, Target, first_answer
from bench.thin_client import FRAME_BYTES_MAX, ThinClient, body_frames, frame, literal

REQUEST = build_request("echo", "", [InputSpec("x", "FP32", (1, 30))])
LARGE = build_request("echo", "", [InputSpec("x", "FP32", (1, 9000))])
BODIES = Bodies(REQUEST, REQUEST, REQUEST)


def _target(echo):
    return Target("echo", echo.address, "echo")


@pytest.fixture
def client(echo):
    made = ThinClient(_target(echo))
    yield made
    made.close()


def test_frames_are_as_rfc_9113_draws_them():
    assert frame(6, 1, 0, b"12345678") == b"\0\0\x08\x06\x01\0\0\0\0" + b"12345678"
    assert literal("te", "trailers") == b"\0\x02te\x08trailers"


def test_a_long_message_goes_out_in_several_frames_and_only_the_last_ends_the_stream():
    whole, found = body_frames(3, b"x" * (2 * FRAME_BYTES_MAX)), []
    while whole:
        length = int.from_bytes(whole[:3], "big")
        found.append((length, whole[4]))
        whole = whole[9 + length :]
    assert found == [(FRAME_BYTES_MAX, 0), (FRAME_BYTES_MAX, 0), (5, 1)]


@pytest.mark.parametrize("request_bytes", [REQUEST, LARGE], ids=["small", "large"])
def test_answers_are_what_grpc_gives(echo, client, request_bytes):
    expected = first_answer(_target(echo), request_bytes, 5)
    for _ in range(20):
        answer = client.call(request_bytes)
        assert answer.data[5:] == expected
        assert 0 < answer.ended_ns - answer.sent_ns < 5e9


def test_a_failed_call_has_no_answer_and_the_next_one_has(echo, client):
    echo.fail_every = 2
    assert [client.call(REQUEST).ok for _ in range(4)] == [True, False, True, False]


def test_a_server_that_does_not_answer_is_told(echo):
    echo.stall_call, echo.stall_s = 1, 3
    client = ThinClient(_target(echo), timeout_s=0.2)
    with pytest.raises(BenchError, match="not answered in time"):
        client.call(REQUEST)
    client.close()
    echo.stall.set()


def test_a_window_begins_and_ends_its_sequence():
    bodies = Bodies(b"first", b"middle", b"last")
    assert [bodies.of(place, 4) for place in range(4)] == [b"first", b"middle", b"middle", b"last"]


def test_calls_are_made_when_they_are_due(echo, client):
    start = time.monotonic_ns() + 10_000_000
    calls = play(client, Window(start, 100, 0.2, BODIES))
    assert calls.due.tolist() == [start + place * 10_000_000 for place in range(20)]
    assert np.all(calls.sent >= calls.due)
    assert np.all(calls.ended > calls.sent)
    assert (echo.calls, calls.failed) == (20, 0)


def test_failed_calls_are_counted_apart(echo, client):
    echo.fail_every = 4
    calls = play(client, Window(time.monotonic_ns(), 500, 0.04, BODIES))
    assert (len(calls.due), calls.failed) == (15, 5)
    joined = calls.joined(NO_CALLS).joined(Calls(*(np.asarray([1], np.int64),) * 3, failed=2))
    assert (len(joined.due), joined.failed) == (16, 7)


def test_a_metronome_is_a_process_of_its_own(echo):
    metronome = Metronome(_target(echo))
    try:
        metronome.start(Window(time.monotonic_ns(), 200, 0.1, BODIES))
        assert len(metronome.result(0.1).due) == 20
    finally:
        metronome.close()
