"""scripts/bench_oip: options in, cases run, table out."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench import compare, h2load_driver, python_driver
from bench.payload import InputSpec, build_request, close_axes, parse_input
from bench.schedule import Phases
from bench.stats import PERCENTILES, Sample, Summary, summarise
from bench.target import BenchError, Target, first_answer, is_reachable, largest_difference, model_inputs, pin

COLUMNS = ["calls_per_s", *PERCENTILES, "mb_per_s_out", "mb_per_s_in"]
EXAMPLES = """drivers:
  h2load  closed loop of unary calls, at a fraction of a core. Debian: apt-get install nghttp2-client
  python  everything else; grpcio gives at most about 4,500 calls/s from one core, so it may be the bottleneck

examples:
  # the appliance, with inputs as its ModelMetadata tells them
  scripts/bench_oip 127.0.0.1:8001 --model NAME --concurrency 1 4 64
  # the forest of the demo beside MLServer with the very same .onnx file, in turns (scripts/make_models DIR breast-cancer)
  scripts/bench_peers/mlserver --onnx DIR/breast-cancer/model.onnx --port 8101 -- \\
      scripts/bench_oip 127.0.0.1:8001 --model breast-cancer --concurrency 4 64 --rounds 5 --duration 10 \\
      --peer 127.0.0.1:8101 --peer-model peer --peer-label mlserver
  # 600 kB in and out, MB/s each way (scripts/bench_echo_model DIR; appliance models add DIR/echo)
  scripts/bench_oip 127.0.0.1:8001 --model echo --payload-bytes 602112 --concurrency 1 4
  # latency at a fixed rate; each call's time counts from when it was due
  scripts/bench_oip 127.0.0.1:8001 --model NAME --rate 100 --duration 30
  # streams
  scripts/bench_oip 127.0.0.1:8001 --model NAME --stream --concurrency 4

The exit status is 1 when any call failed, 2 when nothing could be measured.
"""


@dataclass(frozen=True)
class Case:
    """One line of the table: K in flight or a rate, and a size."""

    in_flight: int
    rate: float | None
    payload_bytes: int | None

    def name(self, stream: bool) -> str:
        """What the table calls it."""
        load = f"{self.rate:g}/s" if self.rate else f"{self.in_flight} {'streams' if stream else 'in flight'}"
        return f"{load}, {self.payload_bytes:,} B" if self.payload_bytes else load


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_oip",
        description="Load on an Open Inference Protocol v2 server over gRPC: rates and latencies, one server or two in turns.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("address", help="host:port or unix:/path")
    made.add_argument("--model", required=True)
    made.add_argument("--version", default="", help="default: the server's choice")
    made.add_argument("--input", action="append", default=[], metavar="NAME:TYPE:SHAPE[:FILE.npy]",
                      help="x:FP32:1x30; repeat for each input (default: from ModelMetadata)")  # fmt: skip
    made.add_argument("--batch", type=int, default=1, help="length of an open axis 0 (default: 1)")
    made.add_argument("--payload-bytes", type=int, nargs="+", metavar="N", help="make the last open axis this large")
    made.add_argument(
        "--concurrency", type=int, nargs="+", default=[4], metavar="K", help="calls in flight (default: 4)"
    )
    made.add_argument("--rate", type=float, nargs="+", metavar="R", help="open loop: calls/s, instead of --concurrency")
    made.add_argument("--stream", action="store_true", help="ModelStreamInfer, one request at a time on K streams")
    made.add_argument("--warmup", type=float, default=2.0, metavar="S")
    made.add_argument("--duration", type=float, default=5.0, metavar="S", help="measured seconds of each round")
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
    positive = {"--batch": [args.batch], "--concurrency": args.concurrency, "--rate": args.rate or [],
                "--duration": [args.duration], "--rounds": [args.rounds], "--connections": [args.connections],
                "--timeout": [args.timeout], "--payload-bytes": args.payload_bytes or []}  # fmt: skip
    for name, values in positive.items():
        if any(value <= 0 for value in values):
            raise BenchError(f"{name} must be above 0, got {', '.join(f'{value:g}' for value in values)}")
    if args.warmup < 0:
        raise BenchError(f"--warmup must not be below 0, got {args.warmup:g}")
    if args.peer and args.label == args.peer_label:
        raise BenchError(f"--label and --peer-label are both {args.label!r}")


def targets(args: argparse.Namespace) -> list[tuple[Target, list[InputSpec]]]:
    """The servers and their inputs; BenchError when one can't be reached or asked."""
    pairs = [(Target(args.label, args.address, args.model, args.version), args.input)]
    if args.peer:
        peer = Target(args.peer_label, args.peer, args.peer_model or args.model, args.peer_version)
        pairs.append((peer, args.peer_input or args.input))
    found = []
    for target, texts in pairs:
        if not is_reachable(target.address):
            raise BenchError(f"{target.label}: nothing listens on {target.address}")
        found.append((target, [parse_input(text) for text in texts] or model_inputs(target, args.timeout)))
    return found


def measure(args: argparse.Namespace, case: Case, target: Target, request: bytes, answer_bytes: int) -> Summary:
    """One round of one server with the driver that fits."""
    phases = Phases(args.warmup, args.duration)
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


def run_case(args: argparse.Namespace, case: Case, servers: list[tuple[Target, list[InputSpec]]]) -> compare.Outcome:
    """First one real call of each server, their answers compared, then the rounds."""
    runs: dict[str, Callable[[], Summary]] = {}
    answers = []
    for target, inputs in servers:
        specs = [close_axes(one, args.batch, case.payload_bytes) for one in inputs]
        request = build_request(target.model, target.version, specs)
        answer = first_answer(target, request, args.timeout)
        answers.append(answer)

        def run(target: Target = target, request: bytes = request, size: int = len(answer)) -> Summary:
            return measure(args, case, target, request, size)

        runs[target.label] = run
    if len(answers) == 2:
        difference = largest_difference(*answers)
        told = "have no numeric output in common" if difference is None else f"differ by at most {difference:.3g}"
        print(f"  {case.name(args.stream)}: the two servers' answers {told}", file=sys.stderr)
    return compare.in_turns(case.name(args.stream), runs, args.rounds)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    check_options(args)
    pin(args.client_cpus)
    servers = targets(args)
    loads = [(1, rate) for rate in args.rate] if args.rate else [(k, None) for k in args.concurrency]
    cases = [Case(k, rate, size) for size in args.payload_bytes or [None] for k, rate in loads]
    outcomes = [run_case(args, case, servers) for case in cases]
    columns = [*COLUMNS, "late_p99_ms"] if args.rate else COLUMNS
    return compare.report(outcomes, columns, vars(args), as_document=args.json)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    try:
        return run(parser().parse_args(argv))
    except (BenchError, ValueError) as error:
        print(f"bench_oip: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
