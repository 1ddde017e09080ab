"""Command lines of llama.cpp's programs, what they print, and their lives; the programs are played by small scripts."""

import http.client
from pathlib import Path

import pytest
from bench import llama_peers
from bench.llama_peers import (
    Gguf,
    Server,
    batched_bench,
    batched_bench_command,
    context_for,
    parse_batched_bench,
    running,
)
from bench.target import BenchError, is_reachable
from bench_simulators import BATCHED_BENCH, LLAMA_SERVER, write_program

GGUF = Gguf(Path("/models/a.gguf"), 2)
# Two lines of llama-batched-bench --output-format jsonl, as it printed them.
PRINTED = """
{"n_kv_max": 2048, "n_batch": 2048, "n_ubatch": 512, "flash_attn": -1, "is_pp_shared": 0, "n_gpu_layers": -1, "n_threads": 2, "n_threads_batch": 2, "pp": 32, "tg": 8, "pl": 1, "n_kv": 40, "t_pp": 0.114525, "speed_pp": 279.414978, "t_tg": 0.072214, "speed_tg": 110.781845, "t": 0.186739, "speed": 214.202713}
{"n_kv_max": 2048, "n_batch": 2048, "n_ubatch": 512, "flash_attn": -1, "is_pp_shared": 0, "n_gpu_layers": -1, "n_threads": 2, "n_threads_batch": 2, "pp": 32, "tg": 8, "pl": 4, "n_kv": 160, "t_pp": 0.443420, "speed_pp": 288.665375, "t_tg": 0.188566, "speed_tg": 169.701859, "t": 0.631986, "speed": 253.170151}

"""


def _option(command, name):
    return command[command.index(name) + 1]


@pytest.mark.parametrize(
    ("sequences", "tokens", "context"), [(1, 256, 256), (1, 257, 512), (8, 256, 2048), (16, 300, 8192)]
)
def test_each_sequence_has_room(sequences, tokens, context):
    assert context_for(sequences, tokens) == context


def test_batched_bench_gets_the_same_file_threads_and_lengths():
    command = batched_bench_command(Path("/bin/bb"), GGUF, 128, 100, 8)
    assert command[0] == "/bin/bb"
    wanted = {"--model": "/models/a.gguf", "--threads": "2", "--threads-batch": "2", "-npp": "128", "-ntg": "100",
              "-npl": "8", "--ctx-size": "2048", "--output-format": "jsonl"}  # fmt: skip
    assert {name: _option(command, name) for name in wanted} == wanted


def test_llama_server_gets_a_slot_and_room_for_each_client():
    command = Server(Path("/bin/ls"), GGUF, 16, 600).command(8123)
    wanted = {"--parallel": "16", "--ctx-size": "12288", "--host": "127.0.0.1", "--port": "8123", "--threads": "2"}
    assert {name: _option(command, name) for name in wanted} == wanted


@pytest.mark.parametrize(("sequences", "rate"), [(1, 110.781845), (4, 169.701859)])
def test_the_rate_is_s_tg_of_the_batch_size(sequences, rate):
    summary = parse_batched_bench(PRINTED, sequences)
    assert summary.figures["tokens_per_s"] == rate
    assert summary.figures["counted_tokens"] == 8 * sequences
    assert (summary.figures["prompt_tokens"], summary.figures["answer_tokens"]) == (32, 8)


@pytest.mark.parametrize("printed", ["", "| PP | TG |\n", PRINTED])
def test_a_batch_size_that_was_not_measured_is_told(printed):
    # It leaves out what does not fit into its context, and ends with 0.
    with pytest.raises(BenchError, match="no line for 16 sequences"):
        parse_batched_bench(printed, 16)


def test_batched_bench_is_run_once(tmp_path):
    program = write_program(tmp_path / "bb", BATCHED_BENCH)
    summary = batched_bench(program, GGUF, 32, 8, 4)
    assert (summary.figures["tokens_per_s"], summary.driver) == (50, "batched-bench")


def test_a_batched_bench_that_fails_is_told_with_its_words(tmp_path):
    program = write_program(tmp_path / "bb", BATCHED_BENCH)
    with pytest.raises(BenchError, match="ended with 1: bad number of threads"):
        batched_bench(program, Gguf(Path("a"), 13), 32, 8, 4)
    with pytest.raises(BenchError, match="No such file"):
        batched_bench(tmp_path / "none", GGUF, 32, 8, 4)


def test_a_batched_bench_that_hangs_is_ended(tmp_path, monkeypatch):
    program = write_program(tmp_path / "bb", "#!{python}\nimport signal\nsignal.pause()\n")
    monkeypatch.setattr(llama_peers, "BATCHED_BENCH_SECONDS_MAX", 0.1)
    with pytest.raises(BenchError, match=r"did not end within 0\.1 s"):
        batched_bench(program, GGUF, 32, 8, 4)


def test_llama_server_runs_while_the_block_does_even_if_that_fails(tmp_path):
    server = Server(write_program(tmp_path / "ls", LLAMA_SERVER), GGUF, 2, 64)
    addresses = []
    with pytest.raises(KeyError), running(server) as url:  # noqa: PT012 - what is in the block is the point
        addresses.append(url.removeprefix("http://"))
        connection = http.client.HTTPConnection(addresses[0], timeout=5)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
        raise KeyError
    assert not is_reachable(addresses[0])


def test_a_llama_server_that_does_not_come_up_is_told_with_its_words(tmp_path):
    program = write_program(tmp_path / "ls", LLAMA_SERVER)
    with (
        pytest.raises(BenchError, match=r"before it was ready: .*could not be loaded"),
        running(Server(program, GGUF, 13, 64)),
    ):
        pass
    with pytest.raises(BenchError, match="No such file"), running(Server(tmp_path / "none", GGUF, 2, 64)):
        pass


def test_a_llama_server_that_ignores_sigterm_is_killed(tmp_path, monkeypatch):
    deaf = LLAMA_SERVER.replace("import http.server", "import signal, http.server", 1)
    deaf = deaf.replace(
        "http.server.ThreadingHTTPServer((",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nhttp.server.ThreadingHTTPServer((",
    )
    monkeypatch.setattr(llama_peers, "STOP_SECONDS_MAX", 0.1)
    with running(Server(write_program(tmp_path / "ls", deaf), GGUF, 2, 64)) as url:
        assert is_reachable(url.removeprefix("http://"))
    assert not is_reachable(url.removeprefix("http://"))
