"""The drivers against a real gRPC server in this process: what it counted is what they count."""

import json

import pytest
from bench import h2load_driver, oip, python_driver
from bench.payload import InputSpec, build_request
from bench.schedule import Phases
from bench.target import BenchError, Target, first_answer, is_reachable, model_inputs, pin

REQUEST = build_request("echo", "", [InputSpec("x", "FP32", (1, 30))])
WHOLE = Phases(0, 0.3)
needs_h2load = pytest.mark.skipif(not h2load_driver.is_installed(), reason="h2load (nghttp2-client) is not installed")


def _target(echo):
    return Target("echo", echo.address, "echo")


@pytest.mark.parametrize("loop", [python_driver.closed_loop, python_driver.streams])
def test_closed_loops_count_what_the_server_did(echo, loop):
    recorder = loop(_target(echo), REQUEST, 3, WHOLE, 5)
    counted = len(recorder.latencies_ns)
    assert counted > 10
    assert not recorder.errors
    # The calls that ran when the window closed are not in it: at most one for each caller.
    assert echo.ok - 3 <= counted <= echo.ok
    assert all(0 < latency < 5e9 for latency in recorder.latencies_ns)


@pytest.mark.parametrize(
    ("loop", "code"), [(python_driver.closed_loop, "RESOURCE_EXHAUSTED"), (python_driver.streams, "STREAM_ERROR")]
)
def test_failed_calls_are_errors_and_not_successes(echo, loop, code):
    echo.fail_every = 3
    recorder = loop(_target(echo), REQUEST, 2, WHOLE, 5)
    assert set(recorder.errors) == {code}
    assert echo.calls - 2 <= len(recorder.latencies_ns) + recorder.errors[code] <= echo.calls
    assert abs(len(recorder.latencies_ns) - 2 * recorder.errors[code]) <= 6


def test_warm_up_is_not_counted(echo):
    recorder = python_driver.closed_loop(_target(echo), REQUEST, 2, Phases(0.3, 0.1), 5)
    assert 0 < len(recorder.latencies_ns) < echo.ok / 2


def test_a_stream_of_several_responses_is_one_call(echo):
    echo.parts = 3
    recorder = python_driver.streams(_target(echo), REQUEST, 1, WHOLE, 5)
    assert echo.ok - 1 <= len(recorder.latencies_ns) <= echo.ok


def test_open_loop_sends_each_call_that_is_due(echo):
    recorder = python_driver.open_loop(_target(echo), REQUEST, 200, Phases(0.1, 0.4), 5)
    assert len(recorder.latencies_ns) == 80
    assert len(recorder.late_ns) == 80
    assert echo.calls == 100


@pytest.mark.parametrize("echo", [1], indirect=True)
def test_open_loop_makes_calls_due_during_a_stall_wait_too(echo):
    """Only one call is stalled (0.3 s), but with one worker thread all that are due meanwhile must show it."""
    echo.stall_call = 11
    recorder = python_driver.open_loop(_target(echo), REQUEST, 100, Phases(0, 0.6), 5)
    assert len(recorder.latencies_ns) == 60
    assert sum(latency > 50e6 for latency in recorder.latencies_ns) >= 15


def test_open_loop_counts_deadlines(echo):
    echo.stall_call, echo.stall_s = 1, 1.5
    recorder = python_driver.open_loop(_target(echo), REQUEST, 50, Phases(0, 0.1), 0.8)
    assert recorder.errors == {"DEADLINE_EXCEEDED": 1}
    assert len(recorder.latencies_ns) == 4


@needs_h2load
def test_h2load_counts_what_the_server_did(echo):
    target = _target(echo)
    size = len(first_answer(target, REQUEST, 5))
    sample = h2load_driver.closed_loop(target, REQUEST, size, 4, 2, Phases(0.1, 0.2))
    assert sample.calls == len(sample.latencies_us) >= h2load_driver.CALLS_MIN
    assert not sample.errors
    assert sample.calls < echo.ok


@needs_h2load
def test_h2load_takes_no_grpc_error_for_a_success(echo):
    target = _target(echo)
    size = len(first_answer(target, REQUEST, 5))
    echo.fail_every = 2
    sample = h2load_driver.closed_loop(target, REQUEST, size, 4, 1, Phases(0.1, 0.2))
    assert abs(sample.calls - sample.errors["NOT_OK"]) <= 1
    assert len(sample.latencies_us) == 0


@needs_h2load
def test_h2load_refuses_answers_that_it_cannot_check(echo):
    target = _target(echo)
    size = len(first_answer(target, REQUEST, 5))
    echo.growing = True
    with pytest.raises(BenchError, match="use --driver python"):
        h2load_driver.closed_loop(target, REQUEST, size, 4, 1, Phases(0.1, 0.2))


REPORT = """finished in 1.32s, 1515.37 req/s, 546.11KB/s
requests: 2000 total, 2000 started, 2000 done, {ok} succeeded, {failed} failed, {errored} errored, 0 timeout
traffic: 720.76KB (738060) total, 5.93KB (6075) headers (space savings 96.25%), 246.09KB ({data}) data
"""


@pytest.mark.parametrize(
    ("ok", "failed", "errored", "data", "good"),
    [(2000, 0, 0, 252_000, 2000), (2000, 0, 0, 0, 0), (2000, 0, 0, 126, 1), (1990, 4, 6, 250_740, 1990)],
)
def test_reports_are_counted_by_bytes(ok, failed, errored, data, good):
    text = REPORT.format(ok=ok, failed=failed, errored=errored, data=data)
    assert h2load_driver.good_calls(text, 121) == (good, 2000)


@pytest.mark.parametrize("text", ["", REPORT.format(ok=1, failed=0, errored=0, data=127), "finished in 1s"])
def test_reports_that_do_not_come_out_even_are_refused(text):
    with pytest.raises(BenchError, match="use --driver python"):
        h2load_driver.good_calls(text, 121)


@pytest.mark.parametrize(
    ("in_flight", "wanted", "expected"),
    [(64, 1, (1, 64)), (64, 4, (4, 16)), (6, 4, (3, 2)), (7, 4, (1, 7)), (2, 8, (2, 1))],
)
def test_connections_divide_the_calls_in_flight(in_flight, wanted, expected):
    assert h2load_driver.connections_for(in_flight, wanted) == expected


def test_inputs_come_from_the_model_itself(echo):
    assert model_inputs(_target(echo), 5) == [InputSpec("x", "FP32", (-1, 30))]


def test_an_unknown_model_is_told(echo):
    with pytest.raises(BenchError, match="NOT_FOUND: Request for unknown model 'none'"):
        model_inputs(Target("echo", echo.address, "none"), 5)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "unix:/no/such/socket", "nowhere", "127.0.0.1:port"])
def test_addresses_where_nobody_listens_are_told(address, capsys):
    assert not is_reachable(address, 0.5)
    assert oip.main([address, "--model", "echo"]) == 2
    assert "nothing listens on" in capsys.readouterr().err


@pytest.mark.parametrize("cpus", ["4096", "a", "0,,1"])
def test_cores_that_are_not_there_are_told(cpus):
    with pytest.raises(BenchError, match="expected cores among"):
        pin(cpus)


def test_two_servers_and_json(echo, capsys):
    options = ["--model", "echo", "--peer", echo.address, "--rounds", "2", "--warmup", "0", "--duration", "0.1"]
    assert oip.main([echo.address, *options, "--driver", "python", "--concurrency", "1", "2", "--json"]) == 0
    captured = capsys.readouterr()
    read = json.loads(captured.out)
    assert [case["case"] for case in read["cases"]] == ["1 in flight", "2 in flight"]
    assert [len(rounds) for rounds in read["cases"][0]["rounds"].values()] == [2, 2]
    assert read["cases"][0]["ratio"]["calls_per_s"] > 0
    assert "the answers of appliance and peer differ by at most 0\n" in captured.err
    assert "all servers are asked with the same bytes" in captured.err


def test_failed_calls_give_exit_status_one(echo, capsys):
    echo.fail_every = 5
    options = ["--model", "echo", "--rounds", "1", "--warmup", "0", "--rate", "100", "--duration", "0.2"]
    assert oip.main([echo.address, *options]) == 1
    assert "RESOURCE_EXHAUSTED 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rate", "10", "--stream"], "leave --stream out"),
        (["--rate", "0"], "--rate must be above 0"),
        (["--concurrency", "0"], "--concurrency must be above 0"),
        (["--rounds", "0"], "--rounds must be above 0"),
        (["--warmup", "-1"], "--warmup must not be below 0"),
        (["--driver", "h2load", "--stream"], "use --driver python"),
        (["--peer", "127.0.0.1:1", "--peer-label", "appliance"], "are both 'appliance'"),
        (["--input", "x"], "expected name:datatype:shape"),
        (["--input", "x:FP32:1x-1"], "give it with --input"),
    ],
)
def test_options_that_make_no_sense_are_told(echo, options, complaint, capsys):
    assert oip.main([echo.address, "--model", "echo", *options]) == 2
    assert complaint in capsys.readouterr().err
