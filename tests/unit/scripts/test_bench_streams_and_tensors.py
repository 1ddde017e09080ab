"""Streams that are filled without waiting, paced calls, large tensors: against a real gRPC server in this process."""

import json
import os
from collections import Counter

import numpy as np
import pytest
from bench import compare, h2load_driver, shared_regions, stream, tensors
from bench.payload import InputSpec, build_request
from bench.schedule import Phases
from bench.stats import Sample, Summary
from bench.target import BenchError, Target, first_answer

from appliance.pb.inference import grpc_service_pb2 as pb

REQUEST = build_request("echo", "", [InputSpec("x", "FP32", (1, 30))])
SHORT = ["--rounds", "1", "--seconds", "0.1", "--warmup", "0"]
needs_h2load = pytest.mark.skipif(not h2load_driver.is_installed(), reason="h2load (nghttp2-client) is not installed")


def _target(echo):
    return Target("echo", echo.address, "echo")


@needs_h2load
def test_paced_calls_are_made_one_after_another(echo):
    size = len(first_answer(_target(echo), REQUEST, 5))
    sample = h2load_driver.paced(_target(echo), REQUEST, size, 100, Phases(0.1, 0.3))
    assert sample.calls == len(sample.latencies_us) == 30
    assert sample.seconds > 0.2
    assert echo.calls == 1 + 10 + 30


@needs_h2load
def test_every_message_of_a_stream_is_counted(echo):
    size = len(stream.first_stream_answer(_target(echo), REQUEST, 5))
    sample = h2load_driver.streams(_target(echo), REQUEST, size, 2, 1, Phases(0, 0.2))
    assert sample.calls >= 2 * h2load_driver.CALLS_MIN
    assert not sample.errors
    assert echo.ok == 1 + 2 * h2load_driver.WARMUP_MESSAGES + sample.calls


@needs_h2load
def test_failed_messages_of_a_stream_are_no_successes(echo):
    size = len(stream.first_stream_answer(_target(echo), REQUEST, 5))
    echo.fail_every = 3
    with pytest.raises(BenchError, match="right can't be told from wrong"):
        h2load_driver.streams(_target(echo), REQUEST, size, 1, 1, Phases(0, 0.1))


@pytest.mark.parametrize(
    ("rate", "seconds", "in_flight", "calls"),
    [(5000, 2, 64, 10_000), (10, 2, 4, 60), (100, 1, 4, 200), (1, 1, 16, 16), (0, 1, 4, 4)],
)
def test_a_slow_server_is_not_asked_for_minutes(rate, seconds, in_flight, calls):
    assert h2load_driver.calls_for(rate, seconds, in_flight) == calls


@needs_h2load
def test_streams_are_set_against_unary_calls(echo, capsys):
    options = [echo.address, "--model", "echo", *SHORT, "--streams", "1", "--in-flight", "2", "--json"]
    assert stream.main(options) == 0
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert case["case"] == "appliance, 1 streams"
    assert list(case["median"]) == ["streams", "unary, 2 in flight"]
    assert case["ratio"]["calls_per_s"] > 0


@pytest.mark.parametrize("main", [stream.main, tensors.main])
@pytest.mark.parametrize("options", [["--rounds", "0"], ["--seconds", "-1"], ["--in-flight", "0"]])
def test_options_that_make_no_sense_are_told(main, options, capsys):
    options = ["127.0.0.1:1", "--model", "echo", *options]
    assert main(options) == 2
    assert "must be above 0" in capsys.readouterr().err


def test_an_address_needs_a_model(capsys):
    assert stream.main(["127.0.0.1:1"]) == 2
    assert "--model: an address needs the name" in capsys.readouterr().err


def test_three_servers_have_two_ratios():
    rounds = {
        name: [Summary(1, "d", {"calls_per_s": rate}, {})] for name, rate in (("a", 30.0), ("b", 10.0), ("c", 60.0))
    }
    outcome = compare.Outcome("4 in flight", rounds)
    assert outcome.ratio is None
    assert {label: ratio["calls_per_s"] for label, ratio in outcome.ratios.items()} == {"b": 3, "c": 0.5}
    table = compare.table([outcome], ["calls_per_s"])
    assert "ratio / b" in table
    assert "ratio / c" in table
    assert compare.legend([outcome]).startswith("ratio = a / b or c: above 1 favours a in calls_per_s")


# --- large tensors ------------------------------------------------------------------------------------------------------


def test_rates_of_clients_at_the_same_time_add_up():
    samples = [
        Sample(2.0, 100, np.asarray([1.0, 2.0]), Counter(), 1, 1, "d"),
        Sample(1.0, 100, np.asarray([3.0]), Counter({"NOT_OK": 1}), 1, 1, "d"),
    ]
    whole = tensors.together(samples)
    assert whole.calls / whole.seconds == pytest.approx(150)
    assert whole.latencies_us.tolist() == [1, 2, 3]
    assert whole.errors == {"NOT_OK": 1}


def test_a_request_names_regions_and_carries_no_tensor():
    spec = InputSpec("x", "FP32", (1000,))
    request = pb.ModelInferRequest.FromString(shared_regions.request_for("echo", spec, "y", "in", "out", 4000))
    assert not request.raw_input_contents
    for one, region in ((request.inputs[0], "in"), (request.outputs[0], "out")):
        assert one.parameters["shared_memory_region"].string_param == region
        assert one.parameters["shared_memory_byte_size"].int64_param == 4000


def test_a_server_without_shared_memory_is_told_and_no_region_stays(echo):
    spec = InputSpec("x", "FP32", (10,))
    with (
        pytest.raises(shared_regions.NotOffered),
        shared_regions.pairs(_target(echo), spec, "y", 2, 5),
    ):
        pass
    assert not list(shared_regions.FOLDER.glob(f"bench-tensors-{os.getpid()}-*"))


@needs_h2load
def test_only_a_model_that_gives_its_input_back_is_measured(echo, capsys):
    assert tensors.main([echo.address, *SHORT, "--bytes", "4800", "--in-flight", "1"]) == 2
    # The echo server's output is named as its input, so there is nothing to compare with the model's output.
    assert "doesn't give its input back" in capsys.readouterr().err
