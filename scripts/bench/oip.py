"""scripts/bench_oip: options in, cases run, table out."""

import argparse
import hashlib
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench import command, compare, h2load_driver, python_driver, servers
from bench.payload import build_request, close_axes
from bench.schedule import Phases
from bench.servers import Server
from bench.stats import PERCENTILES, Sample, Summary, summarise
from bench.target import BenchError, Target, first_answer, largest_difference, pin

COLUMNS = ["calls_per_s", *PERCENTILES, "mb_per_s_out", "mb_per_s_in"]
EXAMPLES = """drivers:
  h2load  unary calls, in a closed loop or one at a time, at a fraction of a core. Debian: apt-get install nghttp2-client
  python  everything else; grpcio gives at most about 4,500 calls/s from one core, so it may be the bottleneck

examples:
  # the forest of the demo: a daemon of this checkout, MLServer and Triton in turns, with the same file and the same
  # request bytes; and the unloaded latency, 200 calls/s one after another (scripts/make_models .demo/models breast-cancer)
  scripts/bench_oip --peers mlserver triton --concurrency 1 4 16 64 --unloaded 200 --rounds 5 --seconds 5
  # a running appliance, with inputs as its ModelMetadata tells them
  scripts/bench_oip 127.0.0.1:8001 --model NAME --concurrency 1 4 64
  # beside any other server
  scripts/bench_oip 127.0.0.1:8001 --model NAME --peer 127.0.0.1:8101 --peer-model peer --peer-label other
  # latency at a fixed rate; each call's time counts from when it was due
  scripts/bench_oip 127.0.0.1:8001 --model NAME --rate 100 --seconds 30
  # streams, one request at a time on each (many at a time: scripts/bench_stream; large tensors: scripts/bench_tensors)
  scripts/bench_oip 127.0.0.1:8001 --model NAME --stream --concurrency 4

The exit status is 1 when any call failed, 2 when nothing could be measured.
"""


@dataclass(frozen=True)
class Case:
    """One line of the table: K in flight or a rate, and a size."""

    in_flight: int
    rate: float | None
    payload_bytes: int | None
    paced: float | None = None

    def name(self, stream: bool) -> str:
        """What the table calls it."""
        load = f"{self.rate:g}/s" if self.rate else f"{self.in_flight} {'streams' if stream else 'in flight'}"
        load = f"unloaded, {self.paced:g}/s" if self.paced else load
        return f"{load}, {self.payload_bytes:,} B" if self.payload_bytes else load


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_oip",
        description="Load on an Open Inference Protocol v2 server over gRPC: rates and latencies, one server or two in turns.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    servers.add_options(made, "breast-cancer")
    made.add_argument("--model", help="default: the folder's name")
    made.add_argument("--version", default="", help="default: the server's choice")
    made.add_argument("--input", action="append", default=[], metavar="NAME:TYPE:SHAPE[:FILE.npy]",
                      help="x:FP32:1x30; repeat for each input (default: from ModelMetadata)")  # fmt: skip
    made.add_argument("--batch", type=int, default=1, help="length of an open axis 0 (default: 1)")
    made.add_argument("--payload-bytes", type=int, nargs="+", metavar="N", help="make the last open axis this large")
    made.add_argument(
        "--concurrency", type=int, nargs="+", default=[1, 4, 16, 64], metavar="K", help="in flight (default: 1 4 16 64)"
    )
    made.add_argument(
        "--unloaded", type=float, metavar="R", help="one more case: one call at a time, R calls/s (h2load)"
    )
    made.add_argument("--rate", type=float, nargs="+", metavar="R", help="open loop: calls/s, instead of --concurrency")
    made.add_argument("--stream", action="store_true", help="ModelStreamInfer, one request at a time on K streams")
    made.add_argument("--warmup", type=float, default=2.0, metavar="S")
    made.add_argument("--duration", "--seconds", type=float, default=5.0, metavar="S",
                      help="measured seconds of each round (default: 5)")  # fmt: skip
    made.add_argument("--rounds", type=int, default=3, help="figures are the medians of these (default: 3)")
    made.add_argument("--timeout", type=float, default=10.0, metavar="S", help="deadline of each call (python driver)")
    made.add_argument("--driver", choices=["auto", "h2load", "python"], default="auto")
    made.add_argument("--connections", type=int, default=1, help="h2load: spread the calls over these (default: 1)")
    made.add_argument("--client-cpus", metavar="LIST", help='pin the load generator to these cores, such as "1"')
    made.add_argument("--label", default="appliance")
    made.add_argument("--peer", metavar="ADDRESS", help="a second server, measured in turns with the first")
    made.add_argument("--peer-model", help="default: as --model")
    made.add_argument("--peer-version", default="")
    made.add_argument("--peer-label", default="peer")
    made.add_argument("--peer-input", action="append", default=[], metavar="NAME:TYPE:SHAPE[:FILE.npy]",
                      help="default: as --input")  # fmt: skip
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    return made


def check_options(args: argparse.Namespace) -> None:
    """BenchError for values that make no sense together."""
    if args.rate and args.stream:
        raise BenchError("--rate measures unary calls: leave --stream out")
    if args.driver == "h2load" and (args.rate or args.stream):
        raise BenchError("--driver h2load makes closed loops of unary calls only: use --driver python")
    if args.driver == "h2load" and not h2load_driver.is_installed():
        raise BenchError("h2load is not installed (Debian: apt-get install nghttp2-client): use --driver python")
    if args.unloaded is not None and not h2load_driver.is_installed():
        raise BenchError("--unloaded needs h2load (Debian: apt-get install nghttp2-client): use --rate")
    positive = {"--batch": [args.batch], "--unloaded": [] if args.unloaded is None else [args.unloaded], "--concurrency": args.concurrency, "--rate": args.rate or [],
                "--duration": [args.duration], "--rounds": [args.rounds], "--connections": [args.connections],
                "--timeout": [args.timeout], "--payload-bytes": args.payload_bytes or []}  # fmt: skip
    for name, values in positive.items():
        if any(value <= 0 for value in values):
            raise BenchError(f"{name} must be above 0, got {', '.join(f'{value:g}' for value in values)}")
    if args.warmup < 0:
        raise BenchError(f"--warmup must not be below 0, got {args.warmup:g}")
    labels = [args.label, *([args.peer_label] if args.peer else []), *args.peers]
    for label in labels:
        if labels.count(label) > 1:
            raise BenchError(f"two servers are both {label!r}: --label, --peer-label and --peers must differ")


def measure(args: argparse.Namespace, case: Case, target: Target, request: bytes, answer_bytes: int) -> Summary:
    """One round of one server with the driver that fits."""
    phases = Phases(args.warmup, args.duration)
    if case.paced:
        return summarise(h2load_driver.paced(target, request, answer_bytes, case.paced, phases))
    fits = not case.rate and not args.stream
    if fits and (args.driver == "h2load" or (args.driver == "auto" and h2load_driver.is_installed())):
        loop = h2load_driver.closed_loop
        return summarise(loop(target, request, answer_bytes, case.in_flight, args.connections, phases))
    if case.rate:
        recorder = python_driver.open_loop(target, request, case.rate, phases, args.timeout)
    else:
        closed = python_driver.streams if args.stream else python_driver.closed_loop
        recorder = closed(target, request, case.in_flight, phases, args.timeout)
    latencies, late = python_driver.microseconds(recorder.latencies_ns), python_driver.microseconds(recorder.late_ns)
    calls = len(latencies)
    return summarise(
        Sample(args.duration, calls, latencies, recorder.errors, len(request), answer_bytes, "python", late)
    )


def run_case(args: argparse.Namespace, case: Case, under_test: list[Server]) -> compare.Outcome:
    """First one real call of each server, their answers compared, then the rounds."""
    runs: dict[str, Callable[[], Summary]] = {}
    answers, digests = [], []
    for server in under_test:
        target = server.target
        specs = [close_axes(one, args.batch, case.payload_bytes) for one in server.inputs]
        request = build_request(target.model, target.version, specs)
        answer = first_answer(target, request, args.timeout)
        answers.append(answer)
        digests.append(hashlib.sha256(request).hexdigest())

        def run(target: Target = target, request: bytes = request, size: int = len(answer)) -> Summary:
            return measure(args, case, target, request, size)

        runs[target.label] = run
    name = case.name(args.stream)
    for label, answer in list(zip(runs, answers, strict=True))[1:]:
        difference = largest_difference(answers[0], answer)
        told = "have no numeric output in common" if difference is None else f"differ by at most {difference:.3g}"
        print(f"  {name}: the answers of {args.label} and {label} {told}", file=sys.stderr)
    if len(runs) > 1:
        same = "the same bytes" if len(set(digests)) == 1 else "different bytes"
        print(f"  {name}: all servers are asked with {same}", file=sys.stderr)
    return compare.in_turns(name, runs, args.rounds)


def cases_of(args: argparse.Namespace) -> list[Case]:
    """The lines of the table."""
    loads = [(1, rate) for rate in args.rate] if args.rate else [(k, None) for k in args.concurrency]
    sizes = args.payload_bytes or [None]
    unloaded = [Case(1, None, size, args.unloaded) for size in sizes if args.unloaded]
    return unloaded + [Case(k, rate, size) for size in sizes for k, rate in loads]


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    check_options(args)
    with servers.running(args) as under_test:
        # Only now: the servers keep all the cores.
        pin(args.client_cpus)
        outcomes = [run_case(args, case, under_test) for case in cases_of(args)]
    columns = [*COLUMNS, "late_p99_ms"] if args.rate else COLUMNS
    options = {name: str(value) for name, value in vars(args).items()}
    return compare.report(outcomes, columns, options, as_document=args.json)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return command.answer("bench_oip", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
