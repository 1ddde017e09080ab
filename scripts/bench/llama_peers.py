"""llama.cpp's own programs as peers: llama-batched-bench run once, llama-server for as long as a block lasts."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.stats import Summary
from bench.target import BenchError

READY_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 10.0
BATCHED_BENCH_SECONDS_MAX = 900.0
# llama.cpp rounds the context of a sequence up to this, and divides what it was given by their number.
CONTEXT_STEP = 256
BUILD = """building the peers, of the same llama.cpp as the appliance's (VERSION: that of the installed llama-cpp-python):
  pip download --no-deps --no-binary llama-cpp-python llama-cpp-python==VERSION && tar xf llama_cpp_python-VERSION.tar.gz
  cmake -S llama_cpp_python-VERSION/vendor/llama.cpp -B BUILD -DCMAKE_BUILD_TYPE=Release -DLLAMA_BUILD_TESTS=OFF \\
      -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON -DLLAMA_CURL=OFF
  cmake --build BUILD -j --target llama-server llama-batched-bench    # both are then in BUILD/bin
"""


@dataclass(frozen=True)
class Gguf:
    """The file that the peer loads (the appliance must serve the same) and its number of threads (the same too)."""

    path: Path
    threads: int

    @property
    def options(self) -> list[str]:
        """What every program of llama.cpp calls these."""
        return ["--model", str(self.path), "--threads", str(self.threads), "--threads-batch", str(self.threads)]


def context_for(sequences: int, tokens: int) -> int:
    """Context that gives each of the sequences room for so many tokens."""
    return sequences * -(-tokens // CONTEXT_STEP) * CONTEXT_STEP


# --- llama-batched-bench -----------------------------------------------------------------------------------------------


def batched_bench_command(program: Path, gguf: Gguf, prompt: int, answer: int, sequences: int) -> list[str]:
    """One batch size: so many sequences of ``prompt`` tokens, each continued by ``answer`` tokens."""
    sizes = ["-npp", str(prompt), "-ntg", str(answer), "-npl", str(sequences)]
    context = ["--ctx-size", str(context_for(sequences, prompt + answer))]
    return [str(program), *gguf.options, *context, *sizes, "--output-format", "jsonl"]


def parse_batched_bench(output: str, sequences: int) -> Summary:
    """The line of that batch size. tokens_per_s: its S_TG, all sequences' tokens divided by the time of decoding them."""
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        told = json.loads(line)
        if told.get("pl") == sequences:
            figures = {
                "tokens_per_s": float(told["speed_tg"]),
                "counted_tokens": float(told["tg"] * told["pl"]),
                "prompt_tokens": float(told["pp"]),
                "answer_tokens": float(told["tg"]),
            }
            return Summary(sequences, "batched-bench", figures, {})
    raise BenchError(f"llama-batched-bench printed no line for {sequences} sequences: {output[-300:]!r}")


def batched_bench(program: Path, gguf: Gguf, prompt: int, answer: int, sequences: int) -> Summary:
    """Run it once; BenchError when it fails or hangs."""
    command = batched_bench_command(program, gguf, prompt, answer, sequences)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BATCHED_BENCH_SECONDS_MAX, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"llama-batched-bench did not end within {BATCHED_BENCH_SECONDS_MAX:g} s") from None
    except OSError as error:
        raise BenchError(f"{program}: {error.strerror}") from None
    if done.returncode != 0:
        raise BenchError(f"llama-batched-bench ended with {done.returncode}: {done.stderr[-500:]}")
    return parse_batched_bench(done.stdout, sequences)


# --- llama-server ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """How llama-server is started: ``slots`` answers at a time, each with room for ``slot_tokens``."""

    program: Path
    gguf: Gguf
    slots: int
    slot_tokens: int

    def command(self, port: int) -> list[str]:
        """Its own defaults but for what the comparison needs: loopback, as many slots as clients, no page for browsers."""
        context = ["--parallel", str(self.slots), "--ctx-size", str(context_for(self.slots, self.slot_tokens))]
        return [
            str(self.program),
            *self.gguf.options,
            *context,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--no-webui",
        ]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < end:
        if process.poll() is not None:
            said = log.read_text(errors="replace")[-1500:]
            raise BenchError(f"llama-server ended with {process.returncode} before it was ready: {said}")
        if _is_healthy(port):
            return
        time.sleep(0.05)
    raise BenchError(f"llama-server was not ready within {READY_SECONDS_MAX:g} s")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, signal_number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS_MAX)


@contextlib.contextmanager
def running(server: Server) -> Iterator[str]:
    """A fresh llama-server on a free port, with nothing in its cache; gives its URL and stops it in any case."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-llama-server-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            try:
                process = subprocess.Popen(
                    server.command(port), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                raise BenchError(f"{server.program}: {error.strerror}") from None
        try:
            _wait_ready(process, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(process)
