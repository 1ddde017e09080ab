"""scripts/bench_boot: how long a box with our package takes from its boot, or a restart of the service, to an answer."""

import argparse
import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from built_packages import packages
from installed_box import UNIT, Box
from machine import Machine
from machine_ground import missing
from root_image import unpack_root

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc
from appliance.pb.inference import grpc_service_pb2, grpc_service_pb2_grpc
from bench.own_daemon import MODELS

EXAMPLES = """examples:
  # some 30 s, as root: Debian 12 in a container, the .deb of dist/ (built when it isn't this checkout's)
  scripts/bench_boot
  scripts/bench_boot --models DIR --rounds 9 --json

boot      from the start of the machine to the first answer of --small, the only model
start     from `systemctl start` to that answer
restart   from `systemctl restart`, so from the stop, to the first token of --language, the only model

The client is outside and calls the unix socket again and again. The exit status is 1 when a median is over its bound.
"""
BOUNDS_S = {"boot": 3.0, "start": 3.0, "restart": 4.0}
ANSWER_S_MAX = 60.0
AGAIN_S = 0.005


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_boot",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder of the model folders "
                      "(default: .demo/models)")  # fmt: skip
    made.add_argument("--small", default="breast-cancer", metavar="NAME", help="a model of tensors")
    made.add_argument("--language", default="smollm2", metavar="NAME")
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument(
        "--journal", action="store_true", help="the service's journal of the last round of each, on stderr"
    )
    made.add_argument("--json", action="store_true", help="every round, on standard output")
    return made


def main() -> int:
    """Runs all rounds; the exit status."""
    options = parser().parse_args()
    if reason := missing():
        print(f"bench_boot: {reason}", file=sys.stderr)
        return 2
    deb = packages().deb
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = unpack_root(Path(folder) / "root")
        with Machine(root) as machine:
            box = installed(machine, deb)
            add(box, options.models / options.small)
            seconds["boot"] = [boot(box, options.small) for _ in range(options.rounds)]
            seconds["start"] = [start(box, options.small) for _ in range(options.rounds)]
            tell(box, options.journal)
            machine.run("appliance", "models", "deactivate", options.small)
            add(box, options.models / options.language)
            seconds["restart"] = [restart(box, options.language) for _ in range(options.rounds)]
            tell(box, options.journal)
    return report(seconds, options.json)


def installed(machine: Machine, deb: Path) -> Box:
    machine.put(deb, "/run/appliance.deb")
    machine.run("dpkg", "--install", "/run/appliance.deb", seconds=120)
    return Box(machine)


def add(box: Box, folder: Path) -> None:
    box.machine.put(folder, f"/run/models/{folder.name}")
    box.machine.run("appliance", "models", "add", f"/run/models/{folder.name}", seconds=120)


def tell(box: Box, wanted: bool) -> None:
    if wanted:
        print(box.machine.journal("--unit", UNIT, "--lines=40"), file=sys.stderr)


# --- what is measured ------------------------------------------------------------------------------------------------


def boot(box: Box, model: str) -> float:
    """Seconds from the start of the container's manager."""
    box.machine.power_off()
    began = time.monotonic()
    box.machine.boot()
    return until(lambda: infer(box, model)) - began


def start(box: Box, model: str) -> float:
    box.systemctl("stop")
    began = time.monotonic()
    box.systemctl("start")
    return until(lambda: infer(box, model)) - began


def restart(box: Box, model: str) -> float:
    """`systemctl restart` comes back when the new daemon listens, so an answer is the new one's."""
    began = time.monotonic()
    box.systemctl("restart")
    return until(lambda: first_token(box, model)) - began


def until(answered: Callable[[], None]) -> float:
    """Calls until there is an answer; when it came, on time.monotonic()'s clock."""
    limit = time.monotonic() + ANSWER_S_MAX
    while True:
        with contextlib.suppress(grpc.RpcError):
            answered()
            return time.monotonic()
        if time.monotonic() > limit:
            raise SystemExit(f"bench_boot: no answer in {ANSWER_S_MAX:.0f} s")
        time.sleep(AGAIN_S)


def infer(box: Box, model: str) -> None:
    """A row of zeros, as wide as the model wants it."""
    with box.channel() as channel:
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        metadata = stub.ModelMetadata(grpc_service_pb2.ModelMetadataRequest(name=model), timeout=5)
        request = grpc_service_pb2.ModelInferRequest(model_name=model)
        for tensor in metadata.inputs:
            shape = [max(size, 1) for size in tensor.shape]
            added = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
            added.contents.fp32_contents.extend([0.0] * math.prod(shape))
        stub.ModelInfer(request, timeout=5)


def first_token(box: Box, model: str) -> None:
    with box.channel() as channel:
        options = generation_pb2.Options(max_tokens=8)
        request = generation_pb2.GenerateRequest(model=model, prompt="Once upon a time", options=options)
        next(generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=30))


def report(seconds: dict[str, list[float]], as_json: bool) -> int:
    medians = {what: statistics.median(rounds) for what, rounds in seconds.items()}
    over = [what for what, median in medians.items() if median > BOUNDS_S[what]]
    if as_json:
        print(json.dumps({"seconds": seconds, "median": medians, "bounds": BOUNDS_S, "over": over}))
    else:
        print(f"{'':8}  median  fastest  slowest  bound (s)")
        for what, rounds in seconds.items():
            row = f"{medians[what]:7.2f}  {min(rounds):7.2f}  {max(rounds):7.2f}  {BOUNDS_S[what]:5.1f}"
            print(f"{what:8} {row}{'  over' if what in over else ''}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
