"""Compares ways to build the front-end, on this machine: the sync server pinned (under SCHED_BATCH or not), not pinned, and
grpc.aio. All of them parse, validate and convert with the product's own code and ask the same echo engine, a process of its own
on the last core. The load comes from h2load (Debian: nghttp2-client). Runs are interleaved; the table shows medians (slowest-fastest).
"""

import argparse
import asyncio
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc

from appliance import frames
from appliance.answers import AnyAnswer, InferDone
from appliance.config import Config, PathsConfig, ServerConfig
from appliance.control import Route, RouteTable
from appliance.osutil.memory import keep_freed_memory
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.serve import convert
from appliance.serve.front_end import settle_on_core
from appliance.serve.infer import Received
from appliance.serve.validate import Plan
from appliance.types import ModelKind, ModelSignature, ModelState, TensorSpec
from bench import tensor_path

SIGNATURE = ModelSignature(
    kind=ModelKind.TENSOR,
    platform="echo",
    inputs=(TensorSpec("x", "FP32", (-1, -1)),),
    outputs=(TensorSpec("x", "FP32", (-1, -1)),),
)
SIZES = {"120 B": 30, "600 kB": 150_000}
# "batch" is the product's way: front_end.settle_on_core.
WAYS = ("sync pinned batch", "sync pinned", "sync", "aio pinned", "aio")
METHOD = "/inference.GRPCInferenceService/ModelInfer"


# --- the ways --------------------------------------------------------------------------------------------------------


def sync_way(port: int, engine_path: str) -> None:
    """The product's own servers."""
    from appliance.serve.gate import Gate
    from appliance.serve.health import Readiness
    from appliance.serve.server import Servers
    from appliance.worker.router import Router

    router = Router(128)
    router.apply(RouteTable(1, (Route("echo", "1", ModelState.READY, True, engine_path, SIGNATURE),)))
    config = Config(server=ServerConfig(address=f"127.0.0.1:{port}"), paths=PathsConfig(state="/nonexistent"))
    servers = Servers(config, router, Readiness(), Gate(256), None)  # type: ignore[arg-type]  # no Admin here
    servers.listen_tcp()
    servers.start()
    signal.pause()


class AioFrontEnd:
    """The same path on one event loop: asyncio streams to the engine, pooled."""

    def __init__(self, engine_path: str) -> None:
        self.path = engine_path
        self.plan = Plan("echo", SIGNATURE)
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.decoder: frames.Decoder[AnyAnswer] = frames.Decoder(AnyAnswer)

    async def infer(self, received: Received, _context: object) -> bytes:
        request, raw = convert.opened(received)
        options = convert.request_options(request)
        call, buffers = convert.infer_call(request, self.plan, options, 0, raw)
        if self.idle:
            reader, writer = self.idle.pop()
        else:
            reader, writer = await asyncio.open_unix_connection(self.path, limit=1 << 22)
        writer.writelines(frames.encode(call, buffers))
        await writer.drain()
        header, body = frames.parse_prefix(await reader.readexactly(frames.PREFIX.size))
        answer = self.decoder.decode(await reader.readexactly(header))
        data = memoryview(await reader.readexactly(body))
        self.idle.append((reader, writer))
        assert isinstance(answer, InferDone)
        return convert.infer_response("echo", "1", request.id, answer, data)


async def aio_way(port: int, engine_path: str) -> None:
    """grpc.aio with the product's parsing and serialising."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    method = grpc.unary_unary_rpc_method_handler(AioFrontEnd(engine_path).infer, convert.parse_request, lambda b: b)
    handler = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})
    server.add_generic_rpc_handlers([handler])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


# --- the measurement -------------------------------------------------------------------------------------------------


def start(*arguments: str, core: int | None) -> "subprocess.Popen[bytes]":
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    return subprocess.Popen([sys.executable, __file__, *arguments], preexec_fn=pin)  # noqa: PLW1509  # no threads here


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request(elements: int) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="echo")
    message.inputs.add(name="x", datatype="FP32", shape=[1, elements])
    message.raw_input_contents.append(bytes(4 * elements))
    return message


def prove(port: int) -> None:
    """h2load takes any HTTP 200 for a success: make sure once that the answers are right."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = pb_grpc.GRPCInferenceServiceStub(channel)
        for elements in SIZES.values():
            answer = stub.ModelInfer(request(elements), wait_for_ready=True, timeout=10)
            assert len(answer.raw_output_contents[0]) == 4 * elements


def load(port: int, payload: Path, in_flight: int, seconds: float) -> float:
    """Calls a second."""
    windows = ["-w", "24", "-W", "24"]
    command = ["h2load", "-D", f"{seconds:g}", "-c", str(in_flight), "-m", "1", "-d", str(payload), *windows]
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    url = f"http://127.0.0.1:{port}{METHOD}"
    done = subprocess.run([*command, *headers, url], capture_output=True, text=True, check=True)
    match = re.search(r"finished in [^,]+, ([\d.]+) req/s", done.stdout)
    assert match, done.stdout
    failed = re.search(r"(\d+) failed, (\d+) errored", done.stdout)
    assert failed, done.stdout
    if failed.group(1) != "0":
        print("h2load:", failed.group(0), file=sys.stderr)
    return float(match.group(1))


def measure(rounds: int, seconds: float, levels: list[int]) -> None:
    cores = sorted(os.sched_getaffinity(0))
    results: dict[tuple[str, str, int], list[float]] = {}
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as temporary:
        engine_path = f"{temporary}/engine.sock"
        ports = {way: free_port() for way in WAYS}
        try:
            processes.append(start("engine", engine_path, core=cores[-1]))
            while not Path(engine_path).exists():
                time.sleep(0.02)
            for way, port in ports.items():
                core = cores[0] if "pinned" in way else None
                role = "batch" if "batch" in way else way.split()[0]
                processes.append(start(role, str(port), engine_path, core=core))
                prove(port)
            payloads = {}
            for size, elements in SIZES.items():
                body = request(elements).SerializeToString()
                payloads[size] = Path(temporary) / f"{elements}.bin"
                payloads[size].write_bytes(b"\0" + len(body).to_bytes(4, "big") + body)
            for number in range(rounds):
                for size, payload in payloads.items():
                    for level in levels:
                        for way, port in ports.items():
                            rate = load(port, payload, level, seconds)
                            results.setdefault((way, size, level), []).append(rate)
                print(f"round {number + 1} of {rounds} done", file=sys.stderr)
        finally:
            for process in processes:
                process.kill()
    print_table(results, levels)


def print_table(results: dict[tuple[str, str, int], list[float]], levels: list[int]) -> None:
    print("| calls a second | tensor | " + " | ".join(f"{n} in flight" for n in levels) + " |")
    print("|---" * (len(levels) + 2) + "|")
    for size in SIZES:
        for way in WAYS:
            cells = [cell(results[way, size, level]) for level in levels]
            print(f"| {way} | {size} | " + " | ".join(cells) + " |")


def cell(rates: list[float]) -> str:
    """The median, and the slowest and fastest run: differences within that range say nothing."""
    return f"{statistics.median(rates):.0f} ({min(rates):.0f}-{max(rates):.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("role", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_freed_memory()
    match arguments.role:
        case ["engine", path]:
            tensor_path.engine(path)
        case ["batch", port, path]:
            settle_on_core(-1)
            sync_way(int(port), path)
        case ["sync", port, path]:
            sync_way(int(port), path)
        case ["aio", port, path]:
            asyncio.run(aio_way(int(port), path))
        case _:
            measure(arguments.rounds, arguments.seconds, arguments.in_flight)


if __name__ == "__main__":
    main()
