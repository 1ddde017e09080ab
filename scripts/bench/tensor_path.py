"""What a tensor costs on its way from a front-end to an engine and back, in CPU time of either process, without gRPC: through
the socket, through the connection's arena, and in a client's shared memory. Both ends are the product's own code, the model
gives its input back. The ways take turns; the table shows the least of the rounds, which other work on the machine disturbs least.
"""

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance import frames, limits
from appliance.answers import InferDone
from appliance.calls import AnyCall, InferCall, OutputWanted
from appliance.control import Route, RouteTable
from appliance.engine.base import Engine, Reply
from appliance.osutil.memory import keep_freed_memory
from appliance.questions import RegionEntry
from appliance.tensor_heads import TensorHead
from appliance.types import EngineStats, ModelKind, ModelSignature, ModelState, Tensor
from appliance.worker.engine_loop import EngineLoop
from appliance.worker.lease import Lease
from appliance.worker.regions import FOLDER, SharedRegion, identity_of
from appliance.worker.router import Router

SIZES = (1024, 16_384, 32_768, 65_536, 131_072, 262_144, 600_000, 2_000_000, 6_000_000, 16_000_000)
WAYS = ("socket", "arena", "shared memory")
SIGNATURE = ModelSignature(ModelKind.TENSOR, "echo", (), ())
_BYTES_A_ROUND = 60_000_000


class Echo(Engine):
    """Gives the first input back."""

    def __init__(self) -> None:
        self._queue: list[tuple[Tensor, Reply]] = []

    def signature(self) -> ModelSignature:
        return SIGNATURE

    def warm_up(self) -> None: ...

    def submit(self, call: AnyCall, tensors: list[Tensor], reply: Reply) -> None:  # noqa: ARG002  # the contract's
        self._queue.append((tensors[0], reply))

    def has_work(self) -> bool:
        return bool(self._queue)

    def step(self) -> None:
        tensor, reply = self._queue.pop(0)
        head = TensorHead("x", tensor.datatype, tensor.shape, len(tensor.data))
        reply.finish(InferDone((head,)), [tensor.data])

    def stats(self) -> EngineStats:
        return EngineStats()


def engine(path: str) -> None:
    """The engine's process; ends with the parent's kill."""
    limits.arena_threshold_bytes = 0
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(8)
    ours, theirs = socket.socketpair()
    EngineLoop(Echo(), listener, theirs, frames.Inbox(theirs)).run()
    ours.close()


def cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, for time.clock_gettime (clock_getcpuclockid(3))."""
    return (~pid << 3) | 2


class Paths:
    """Calls by either way. ``region`` has room for the largest tensor twice."""

    def __init__(self, engine_path: str, region: SharedRegion) -> None:
        self._routers = {way: Router(8) for way in WAYS}
        for router in self._routers.values():
            router.apply(RouteTable(1, (Route("echo", "1", ModelState.READY, True, engine_path, SIGNATURE),)))
        self._region = region

    def caller(self, way: str, size: int) -> Callable[[], int]:
        """A function that makes one call and returns how many bytes the answer has."""
        router, data = self._routers[way], bytes(size)
        head = TensorHead("x", "UINT8", (size,), size)
        if way == "shared memory":
            return self._in_region(router, head)

        def call() -> int:
            limits.arena_threshold_bytes = 0 if way == "arena" else 1 << 62
            with Lease(router, "echo") as lease:
                _, body = lease.exchange(InferCall(tensors=(head,)), [data])
                # As convert.infer_response does: an answer is put together once.
                return len(b"".join((b"head", body))) - 4

        return call

    def _in_region(self, router: Router, head: TensorHead) -> Callable[[], int]:
        number, size = self._region.number, head.nbytes
        placed = TensorHead(head.name, head.datatype, head.shape, size, number, 0)
        wanted = OutputWanted("x", region=number, offset=SIZES[-1], room_bytes=size)

        def call() -> int:
            limits.arena_threshold_bytes = 1 << 62
            with Lease(router, "echo") as lease:
                answer, _ = lease.exchange(InferCall(tensors=(placed,), outputs=(wanted,)), [b""], [self._region])
                assert isinstance(answer, InferDone)
                return answer.tensors[0].nbytes

        return call


def measure(paths: Paths, pid: int, sizes: Sequence[int], rounds: int) -> None:
    """Prints a row for each size and way."""
    theirs = cpu_clock(pid)
    print("| tensor | way | front-end, us | engine, us | MB/s each way, of a front-end's core | of both |")
    print("|---|---|---|---|---|---|")
    for size in sizes:
        callers = {way: paths.caller(way, size) for way in WAYS}
        count = max(5, min(500, _BYTES_A_ROUND // size))
        best: dict[str, tuple[float, float]] = {}
        for _ in range(rounds):
            for way, call in callers.items():
                assert call() == size  # makes arenas and learns sizes, too
                call()
                begun = time.process_time(), time.clock_gettime(theirs)
                for _ in range(count):
                    call()
                spent = (time.process_time() - begun[0]) / count, (time.clock_gettime(theirs) - begun[1]) / count
                best[way] = min(spent, best.get(way, spent), key=sum)
        for way, (ours, others) in best.items():
            rates = f"{size / ours / 1e6:.0f} | {size / (ours + others) / 1e6:.0f}"
            print(f"| {size} | {way} | {ours * 1e6:.1f} | {others * 1e6:.1f} | {rates} |", flush=True)


def make_region(name: str, nbytes: int) -> SharedRegion:
    """A region as a client would register it."""
    fd = os.open(f"{FOLDER}/{name}", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o660)
    try:
        os.posix_fallocate(fd, 0, nbytes)
        return SharedRegion(1, RegionEntry("bench", f"/{name}", 0, nbytes, *identity_of(fd)))
    finally:
        os.close(fd)
        os.unlink(f"{FOLDER}/{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bytes", type=int, nargs="+", default=list(SIZES), help=f"sizes of tensors, to {SIZES[-1]}")
    parser.add_argument("role", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    keep_freed_memory()
    if arguments.role:
        engine(arguments.role[1])
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = f"{temporary}/engine.sock"
        process = subprocess.Popen([sys.executable, "-m", "bench.tensor_path", "engine", path])
        try:
            while not Path(path).exists():
                time.sleep(0.02)
            measure(
                Paths(path, make_region(f"bench-{os.getpid()}", 2 * SIZES[-1])),
                process.pid,
                arguments.bytes,
                arguments.rounds,
            )
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
