"""scripts/bench_stream: ModelStreamInfer with many requests in flight on each stream, against unary calls in turns."""

import argparse
from collections.abc import Callable
from functools import partial

import grpc

from appliance.pb.inference import grpc_service_pb2 as pb
from bench import command, compare, h2load_driver, servers
from bench.payload import build_request, close_axes
from bench.schedule import Phases
from bench.stats import Summary, summarise
from bench.target import STREAM_INFER, BenchError, Target, call_error, first_answer, open_channel, pin

COLUMNS = ["calls_per_s", "mb_per_s_out", "mb_per_s_in"]
EXAMPLES = """examples:
  # a daemon of this checkout with the demo's forest (scripts/make_models .demo/models breast-cancer)
  scripts/bench_stream --rounds 5 --seconds 4
  # a running server
  scripts/bench_stream 127.0.0.1:8001 --model NAME --streams 1 4 --in-flight 64
  # Triton as well
  scripts/bench_stream --peers triton

Load from h2load (Debian: apt-get install nghttp2-client), which fills each stream as fast as flow control allows, without
waiting for answers. The ratio's two rates are of the same server. The exit status is 1 when any call failed, 2 when nothing
could be measured.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_stream",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    servers.add_options(made, "breast-cancer")
    made.add_argument("--model", help="default: the folder's name")
    made.add_argument("--input", action="append", default=[], metavar="NAME:TYPE:SHAPE[:FILE.npy]",
                      help="x:FP32:1x30; repeat for each input (default: from ModelMetadata)")  # fmt: skip
    made.add_argument("--batch", type=int, default=1, help="length of an open axis 0 (default: 1)")
    made.add_argument(
        "--streams", type=int, nargs="+", default=[1, 4, 16], metavar="K", help="at a time (default: 1 4 16)"
    )
    made.add_argument("--in-flight", type=int, default=64, metavar="K", help="unary calls at a time (default: 64)")
    made.add_argument("--connections", type=int, default=1, help="spread streams and calls over these (default: 1)")
    made.add_argument("--seconds", type=float, default=4.0, metavar="S", help="of each measurement (default: 4)")
    made.add_argument("--warmup", type=float, default=1.0, metavar="S", help="of the unary calls (default: 1)")
    made.add_argument("--rounds", type=int, default=5, help="figures are the medians of these (default: 5)")
    made.add_argument("--timeout", type=float, default=10.0, metavar="S", help="of the first calls (default: 10)")
    made.add_argument("--client-cpus", metavar="LIST", help='pin the load generator to these cores, such as "1"')
    made.add_argument("--label", default="appliance")
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    return made


def first_stream_answer(target: Target, request: bytes, timeout_s: float) -> bytes:
    """The serialised ModelStreamInferResponse of one real request; BenchError unless it is one good answer."""
    with open_channel(target.address) as channel:
        infer: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM_INFER)
        try:
            answers = list(infer(iter([request]), timeout=timeout_s, wait_for_ready=True))
        except grpc.RpcError as error:
            raise call_error(target, f"the first stream of {target.model!r}", error) from error
    if len(answers) != 1:
        raise BenchError(f"{target.label}: one request on a stream had {len(answers)} answers")
    if error_message := pb.ModelStreamInferResponse.FromString(answers[0]).error_message:
        raise BenchError(f"{target.label}: the first request on a stream failed: {error_message}")
    return answers[0]


def cases_of(args: argparse.Namespace, server: servers.Server) -> dict[str, dict[str, Callable[[], Summary]]]:
    """By case: the streams, and the unary calls to set them against."""
    target, phases = server.target, Phases(args.warmup, args.seconds)
    specs = [close_axes(one, args.batch) for one in server.inputs]
    request = build_request(target.model, target.version, specs)
    unary_bytes = len(first_answer(target, request, args.timeout))
    stream_bytes = len(first_stream_answer(target, request, args.timeout))

    def unary() -> Summary:
        return summarise(
            h2load_driver.closed_loop(target, request, unary_bytes, args.in_flight, args.connections, phases)
        )

    def streamed(streams: int) -> Summary:
        return summarise(h2load_driver.streams(target, request, stream_bytes, streams, args.connections, phases))

    return {
        f"{target.label}, {count} streams": {
            "streams": partial(streamed, count),
            f"unary, {args.in_flight} in flight": unary,
        }
        for count in args.streams
    }


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    command.check_above_zero(args, ("batch", "streams", "in_flight", "connections", "seconds", "rounds", "timeout"))
    command.need_h2load()
    with servers.running(args) as under_test:
        pin(args.client_cpus)
        cases = [case for server in under_test for case in cases_of(args, server).items()]
        outcomes = [compare.in_turns(name, runs, args.rounds) for name, runs in cases]
    options = {name: str(value) for name, value in vars(args).items()}
    return compare.report(outcomes, COLUMNS, options, as_document=args.json)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return command.answer("bench_stream", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
