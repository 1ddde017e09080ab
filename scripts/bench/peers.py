"""The peers of scripts/bench_peers by name: installed (once), started with an .onnx file, stopped with the block."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.target import BenchError, Target

NAMES = ("mlserver", "triton")
PROGRAMS = Path(__file__).resolve().parents[1] / "bench_peers"
STOP_S_MAX = 60.0


@dataclass(frozen=True)
class RunningPeer:
    """Where it listens, and the process whose descendants are the server's."""

    target: Target
    pid: int


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, none of them twice, and with the port behind each of them free as well."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            plug, next_one = (held.enter_context(socket.socket()) for _ in range(2))
            plug.bind(("127.0.0.1", 0))
            port = plug.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                next_one.bind(("127.0.0.1", port + 1))
                found.append(port)
    return found


@contextlib.contextmanager
def running(name: str, onnx: Path, model: str) -> Iterator[RunningPeer]:
    """One peer that serves the file under the model's name, so that it gets the very same request bytes.

    What runs while it serves is ``cat``: its echo says that the server is ready, and the end of its input ends the server,
    also when this process dies. BenchError when the server does not come up (its output is on standard error).
    """
    port, http_port = free_ports(2)
    command = [str(PROGRAMS / name), "--onnx", str(onnx), "--model-name", model,
               "--port", str(port), "--http-port", str(http_port), "--", "cat"]  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        if process.stdout.readline() != b"ready\n":
            raise BenchError(f"{name} did not start: see above")
        yield RunningPeer(Target(name, f"127.0.0.1:{port}", model), process.pid)
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            print(f"  {name} had to be stopped by force", file=sys.stderr)


@contextlib.contextmanager
def all_running(names: Sequence[str], onnx: Path, model: str) -> Iterator[list[RunningPeer]]:
    """Several at a time; each must come up."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(running(name, onnx, model)) for name in names]
