"""Unmodified tritonclient.grpc over ModelStreamInfer: language models by convention, several requests, errors inside."""

import queue
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
import tritonclient.grpc as triton
from daemon_process import Daemon
from settled_counters import eventually_cancelled, settled_counters
from triton_calls import SECONDS, a_pair, given, prompt, texts
from tritonclient.utils import InferenceServerException

GREEDY = given("temperature", np.zeros(1, np.float32), "FP32")
WHOLE = given("stream", np.array([False]), "BOOL")


class Got(NamedTuple):
    result: triton.InferResult | None
    error: InferenceServerException | None

    @property
    def final(self) -> bool:
        assert self.error is None, self.error
        assert self.result is not None
        return bool(self.result.get_response().parameters["triton_final_response"].bool_param)

    @property
    def text(self) -> str:
        assert self.result is not None
        return str(self.result.as_numpy("text_output")[0].decode())


class Stream:
    """An open stream, and what came over it."""

    def __init__(self, address: str) -> None:
        self.client = triton.InferenceServerClient(address)
        self._got: queue.Queue[Got] = queue.Queue()
        self.client.start_stream(lambda result, error: self._got.put(Got(result, error)))

    def ask(self, model: str, *inputs: triton.InferInput, **options: object) -> None:
        self.client.async_stream_infer(model, list(inputs), **options)

    def next(self) -> Got:
        return self._got.get(timeout=SECONDS)

    def rest(self) -> list[Got]:
        """Up to the final response."""
        got = [self.next()]
        while not got[-1].final:
            got.append(self.next())
        return got


@pytest.fixture
def stream(client_daemon: Daemon) -> Iterator[Stream]:
    made = Stream(client_daemon.address)
    yield made
    made.client.stop_stream(cancel_requests=True)
    made.client.close()


def test_text_comes_in_pieces(stream: Stream) -> None:
    stream.ask("says", prompt("h"), GREEDY, request_id="42")
    got = stream.rest()
    assert len(got) > 3
    assert "".join(g.text for g in got) == "elo wr\u00fcd."
    responses = [g.result.get_response() for g in got if g.result]
    assert {(r.id, r.model_name, r.model_version) for r in responses} == {("42", "says", "1.0.0")}
    last = responses[-1].parameters
    assert last["finish_reason"].string_param == "stop"
    assert last["prompt_tokens"].int64_param == 1
    assert last["completion_tokens"].int64_param == len(b"elo wr\xc3\xbcd.")


def test_an_empty_final_response_when_asked_for(stream: Stream) -> None:
    stream.ask("says", prompt("h"), GREEDY, request_id="43", enable_empty_final_response=True)
    *pieces, last = stream.rest()
    assert "".join(g.text for g in pieces) == "elo wr\u00fcd."
    assert last.result is not None
    response = last.result.get_response()
    assert not response.outputs
    assert (response.id, response.model_name, response.model_version) == ("43", "says", "1.0.0")


def test_a_whole_answer_when_asked_for(stream: Stream) -> None:
    stream.ask("says", prompt("h"), GREEDY, WHOLE)
    assert [g.text for g in stream.rest()] == ["elo wr\u00fcd."]


def test_sampling_as_json(stream: Stream) -> None:
    options = given("sampling_parameters", texts(b'{"temperature": 0, "max_tokens": 3, "stop": ["zz"]}'), "BYTES")
    stream.ask("endless", prompt("a"), options, WHOLE)
    (only,) = stream.rest()
    assert only.text == "bcd"
    assert only.result is not None
    assert only.result.get_response().parameters["finish_reason"].string_param == "length"


def test_requests_are_answered_in_their_order(stream: Stream) -> None:
    for number in range(4):
        stream.ask("pair", *a_pair(number), request_id=str(number), model_version="1.0.0")
    answers = [stream.rest()[0].result for _ in range(4)]
    assert [a.get_response().id for a in answers if a] == ["0", "1", "2", "3"]
    assert [a.as_numpy("out_a")[0, 0] for a in answers if a] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("model", "inputs", "words"),
    [
        ("nope", [prompt("h")], "^Request for unknown model: 'nope'"),
        ("says", [], "'text_input' is missing"),
        ("says", [given("text_input", texts(b"\xff"), "BYTES")], "'text_input' is not UTF-8"),
        ("says", [given("text_input", texts(b"a", b"b"), "BYTES")], r"'text_input' has shape \[2\]"),
        ("says", [prompt("h"), given("temprature", np.zeros(1, np.float32), "FP32")], "did you mean 'temperature'"),
        ("says", [prompt("h"), given("temperature", np.array([-1], np.float32), "FP32")], "temperature is -1"),
        ("says", [prompt("h"), given("top_k", np.zeros(1, np.float32), "FP32")], "'top_k' has datatype 'FP32'"),
        ("says", [prompt("h"), given("sampling_parameters", texts(b"{"), "BYTES")], "not valid JSON"),
        ("says", [prompt("h"), given("sampling_parameters", texts(b'{"tmp": 1}'), "BYTES")], "unknown key 'tmp'"),
        ("says", [prompt("h" * 600)], r"600 tokens, context of \d+"),
        ("pair", a_pair()[:1], "missing 'b'"),
    ],
)
def test_an_error_costs_the_stream_only_one_request(
    stream: Stream, model: str, inputs: list[triton.InferInput], words: str
) -> None:
    stream.ask(model, *inputs)
    stream.ask("says", prompt("h"), GREEDY, WHOLE)
    refused = stream.next()
    assert refused.error is not None
    with pytest.raises(InferenceServerException, match=words):
        raise refused.error
    assert [g.text for g in stream.rest()] == ["elo wr\u00fcd."]


def test_cancelling_the_stream_ends_the_work(stream: Stream, client_daemon: Daemon) -> None:
    before = settled_counters(client_daemon, "endless")
    stream.ask("endless", prompt("a"), GREEDY)
    stream.next()
    stream.client.stop_stream(cancel_requests=True)
    eventually_cancelled(client_daemon, "endless", before)


def test_smollm2_answers(shared_daemon: Daemon) -> None:
    made = Stream(shared_daemon.address)
    limit = given("max_tokens", np.array([8], np.int32), "INT32")
    made.ask("smollm2", prompt("The capital of France is"), GREEDY, limit)
    assert "Paris" in "".join(g.text for g in made.rest())
    made.client.stop_stream()
