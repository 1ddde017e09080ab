"""bench_llm against a Generation server and an OpenAI-like HTTP server in this process."""

import json
import math
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import pytest
from bench import llm
from bench.llm_clients import ApplianceClient, Ask, CallFailed, Chunk, OpenAiClient, chunks_of_events
from bench.llm_load import Call, ask_once, run_clients, summarise_calls
from bench.llm_prompts import Prompts, of_length
from bench.schedule import Phases

from appliance.pb.appliance.v1 import generation_pb2 as pb
from appliance.pb.appliance.v1 import generation_pb2_grpc as pb_grpc

WORDS = ["One ", "two ", "three."]
SECOND = 1_000_000_000


class Generation(pb_grpc.GenerationServicer):
    def __init__(self):
        self.prompts = []
        self.fail_every = 0
        self.finishes = True

    def _stream(self, prompt, context):
        self.prompts.append(prompt)
        if self.fail_every and len(self.prompts) % self.fail_every == 0:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
        for word in WORDS:
            yield pb.GenerateResponse(text=word)
        if self.finishes:
            usage = pb.Usage(prompt_tokens=5, completion_tokens=6)
            yield pb.GenerateResponse(finished=pb.Finished(reason=pb.Finished.STOP, usage=usage))

    def Chat(self, request, context):  # noqa: N802 - generated base class
        yield from self._stream(request.messages[0].content, context)

    def Generate(self, request, context):  # noqa: N802 - generated base class
        yield from self._stream(request.prompt, context)


class OpenAi(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append((self.path, body))
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        chat = self.path.startswith("/v1/chat")
        events = [{"choices": [{"delta": {"content": word}} if chat else {"text": word}]} for word in WORDS]
        events.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}})
        for text in [*map(json.dumps, events), "[DONE]"]:
            data = f"data: {text}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args):
        pass


@pytest.fixture
def generation():
    servicer = Generation()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    pb_grpc.add_GenerationServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None).wait(10)


@pytest.fixture
def openai():
    server = ThreadingHTTPServer(("127.0.0.1", 0), OpenAi)
    server.daemon_threads = True
    server.bodies, server.status = [], 200
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


EXPECTED = [Chunk(word) for word in WORDS]


@pytest.mark.parametrize("raw", [False, True])
def test_the_appliance_streams_chunks_and_counts(generation, raw):
    client = ApplianceClient(generation.address)
    assert list(client.stream(Ask("m", raw=raw), "Count")) == [*EXPECTED, Chunk("", True, 5, 6)]
    assert generation.prompts == ["Count"]
    client.close()


@pytest.mark.parametrize("raw", [False, True])
def test_an_openai_server_streams_the_same(openai, raw):
    client = OpenAiClient(openai.address)
    for _ in range(2):
        assert list(client.stream(Ask("m", max_tokens=9, raw=raw), "Count")) == [*EXPECTED, Chunk("", True, 5, 6)]
    path, body = openai.bodies[0]
    assert path == ("/v1/completions" if raw else "/v1/chat/completions")
    assert (body["max_tokens"], body["stream"], body["temperature"]) == (9, True, 0.0)
    client.close()


def test_clients_share_the_load_and_all_is_counted(generation):
    summary = run_clients(generation.address, Ask("m"), Prompts("Count", own=True), 2, Phases(0, 0.3))
    assert not summary.errors
    # A client may be in a call when the window ends.
    assert len(generation.prompts) - 2 <= summary.calls <= len(generation.prompts)
    assert len(set(generation.prompts)) == len(generation.prompts)
    # Each answer has 3 chunks and 6 tokens; those after the window's end do not count.
    assert (summary.calls - 2) * 6 / 0.3 <= summary.figures["tokens_per_s"] <= summary.calls * 6 / 0.3 + 1e-6
    assert summary.figures["prompt_tokens"] == 5
    assert summary.figures["answer_tokens"] == 6
    assert summary.figures["ttft_p50_ms"] > 0


def test_shared_prompts_are_all_the_same(generation):
    run_clients(generation.address, Ask("m"), Prompts("Count"), 2, Phases(0, 0.1))
    assert set(generation.prompts) == {"Count"}


def test_failed_calls_are_counted_by_code(generation):
    generation.fail_every = 2
    summary = run_clients(generation.address, Ask("m"), Prompts("Count"), 1, Phases(0, 0.3))
    assert summary.errors["RESOURCE_EXHAUSTED"] >= 1
    assert summary.errors["RESOURCE_EXHAUSTED"] == len(generation.prompts) - summary.calls


def test_a_stream_without_an_end_is_a_failure(generation):
    generation.finishes = False
    client = ApplianceClient(generation.address)
    assert ask_once(client, Ask("m"), "Count").error == "EARLY_END"
    client.close()


def test_http_errors_are_counted_by_status(openai):
    openai.status = 503
    client = OpenAiClient(openai.address)
    call = ask_once(client, Ask("m"), "Count")
    assert (call.error, call.arrivals_ns) == ("HTTP_503", [])
    openai.status = 200
    assert not ask_once(client, Ask("m"), "Count").error
    client.close()


def test_a_server_that_is_gone_is_a_failure():
    assert ask_once(OpenAiClient("http://127.0.0.1:1"), Ask("m"), "Count").error == "ConnectionRefusedError"


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b'data: {"choices": [{"text": "a"}]}\n'], "EARLY_END"),
        ([b'data: {"error": {"message": "full"}}\n'], "STREAM_ERROR"),
        ([], "EARLY_END"),
    ],
)
def test_event_streams_that_end_badly(lines, code):
    with pytest.raises(CallFailed) as failed:
        list(chunks_of_events(iter(lines)))
    assert failed.value.code == code


def test_event_streams_skip_comments_and_empty_deltas():
    lines = [
        b": ping\n",
        b"\n",
        b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n',
        b"data: [DONE]\n",
    ]
    assert list(chunks_of_events(iter(lines))) == [Chunk(ended=True)]


def test_figures_of_known_streams():
    """Two tokens in each chunk; a chunk every 100 ms, the first 200 ms after the call."""
    arrivals = [SECOND * place // 10 for place in range(2, 12)]
    summary = summarise_calls([Call(0, arrivals, 7, 20)], 0, SECOND)
    assert summary.calls == 1
    assert summary.figures["tokens_per_s"] == 16
    assert summary.figures["stream_tokens_per_s"] == pytest.approx(20)
    assert summary.figures["ttft_p50_ms"] == 200
    assert summary.figures["gap_p50_ms"] == summary.figures["gap_max_ms"] == 100


def test_chunks_stand_for_tokens_where_a_server_tells_no_counts():
    summary = summarise_calls([Call(0, [SECOND // 2, SECOND * 3 // 4])], 0, SECOND)
    assert summary.figures["tokens_per_s"] == 2
    assert summary.figures["stream_tokens_per_s"] == 4
    assert summary.figures["answer_tokens"] == 2


def test_no_call_at_all_gives_no_figures():
    summary = summarise_calls([Call(0, error="UNAVAILABLE")], 0, SECOND)
    assert summary.figures["tokens_per_s"] == 0
    assert math.isnan(summary.figures["ttft_p50_ms"])
    assert summary.errors == {"UNAVAILABLE": 1}


def test_prompts_have_about_the_length_asked_for():
    assert len(of_length(500).split()) == 500


def test_two_servers_in_turns_give_a_ratio(generation, openai, capsys):
    options = ["--model", "m", "--rounds", "1", "--warmup", "0", "--duration", "0.2", "--json"]
    assert llm.main([generation.address, *options, "--peer", openai.address]) == 0
    case = json.loads(capsys.readouterr().out)["cases"][0]
    assert case["ratio"]["tokens_per_s"] > 0
    assert set(case["median"]) == {"appliance", "peer"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--clients", "0"], "--clients must be above 0"),
        (["--prompt-tokens", "0"], "--prompt-tokens must be above 0"),
        (["--prompt-file", "/no/such/file"], "--prompt-file /no/such/file"),
        (["--peer", "127.0.0.1:1"], "peer: nothing listens on 127.0.0.1:1"),
        (["--peer", "https://127.0.0.1:1"], "nothing listens"),
        (["--warmup", "-1"], "--warmup must not be below 0"),
        (["--raw", "--system", "Be short."], "leave --system out"),
    ],
)
def test_options_that_make_no_sense_are_told(generation, options, complaint, capsys):
    assert llm.main([generation.address, "--model", "m", *options]) == 2
    assert complaint in capsys.readouterr().err


def test_a_first_call_that_fails_is_told(generation, capsys):
    generation.fail_every = 1
    assert llm.main([generation.address, "--model", "m"]) == 2
    assert "RESOURCE_EXHAUSTED: the queue is full" in capsys.readouterr().err
