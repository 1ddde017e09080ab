"""scripts/bench_tensors: large tensors in and out, in the request and through system shared memory, in turns."""

import argparse
import contextlib
import dataclasses
import math
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from appliance.pb.inference import grpc_service_pb2 as pb
from bench import command, compare, echo_model, h2load_driver, process_costs, servers, shared_regions
from bench.payload import InputSpec, build_request, close_axes
from bench.schedule import Phases
from bench.servers import Server
from bench.stats import Sample, Summary, summarise
from bench.target import BenchError, first_answer, largest_difference, pin

COLUMNS = ["mb_per_s_out", "mb_per_s_in", "mb_per_cpu_s", "calls_per_s", "p50_ms", "p99_ms", "server_cpu_us"]
OUTPUT = "y"
EXAMPLES = """examples:
  # a daemon of this checkout with a model that gives its input back, shared memory switched on
  scripts/bench_tensors --rounds 5 --seconds 3
  # beside Triton, which has shared memory too; MLServer has none
  scripts/bench_tensors --peers triton mlserver
  # one size, one client
  scripts/bench_tensors --bytes 602112 --in-flight 1

mb_per_s_out and mb_per_s_in: 10^6 bytes of tensor a second to the server and back, at the same time. mb_per_cpu_s: as much
each way for a second of processor time of all the server's processes ("per core"); server_cpu_us: that time a call. Each
client is an h2load of its own with one call in flight; what it costs to make the tensor and to use the answer is not part
of either way. With shared memory every client has two regions of its own; that the answer is in its region is checked
after each measurement. The exit status is 1 when any call failed, 2 when nothing could be measured.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_tensors",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    servers.add_options(made, "echo")
    made.set_defaults(folder=None)
    made.add_argument("--model", help="at an address: a model as scripts/bench_echo_model makes it (default: echo)")
    made.add_argument("--bytes", type=int, nargs="+", default=[602_112, 6_021_120], metavar="N",
                      help="of the tensor (default: 602112 6021120)")  # fmt: skip
    made.add_argument("--in-flight", type=int, nargs="+", default=[1, 4], metavar="K", help="clients (default: 1 4)")
    made.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each measurement (default: 3)")
    made.add_argument("--warmup", type=float, default=1.0, metavar="S")
    made.add_argument("--rounds", type=int, default=5, help="figures are the medians of these (default: 5)")
    made.add_argument("--timeout", type=float, default=10.0, metavar="S", help="of the first calls (default: 10)")
    made.add_argument("--client-cpus", metavar="LIST", help='pin the load generator to these cores, such as "1"')
    made.add_argument("--label", default="appliance")
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    return made


def together(samples: Sequence[Sample]) -> Sample:
    """Clients that ran at the same time as one: their rates add up."""
    calls = sum(one.calls for one in samples)
    rate = sum(one.calls / one.seconds for one in samples)
    errors: Counter[str] = Counter()
    for one in samples:
        errors.update(one.errors)
    latencies = np.concatenate([one.latencies_us for one in samples])
    return dataclasses.replace(
        samples[0],
        seconds=calls / rate if rate else samples[0].seconds,
        calls=calls,
        latencies_us=latencies,
        errors=errors,
    )


def tensor_bytes(spec: InputSpec) -> int:
    """Of the FP32 tensor itself, without names and shapes."""
    return math.prod(spec.shape) * 4


class Measurement:
    """One round: clients with a request each, and the server's processor time from the moment when all of them are warm."""

    def __init__(self, server: Server, nbytes: int, phases: Phases) -> None:
        self._server, self._nbytes, self._phases = server, nbytes, phases

    def run(self, requests: Sequence[bytes], answer_bytes: int) -> Summary:
        """MB are the tensor's bytes, wherever they travel."""
        pids = process_costs.tree_of(self._server.pid) if self._server.pid else []
        before: dict[str, process_costs.Usage] = {}
        warm = threading.Barrier(len(requests), lambda: before.update(process_costs.read({"server": pids})))

        def wait_for_all() -> None:
            warm.wait()

        def client(request: bytes) -> Sample:
            loop = partial(h2load_driver.closed_loop, warm=wait_for_all)
            try:
                return loop(self._server.target, request, answer_bytes, 1, 1, self._phases)
            except BaseException:
                warm.abort()
                raise

        with ThreadPoolExecutor(len(requests)) as pool:
            sample = together(list(pool.map(client, requests)))
        used = process_costs.differences(before, process_costs.read({"server": pids}))["server"]
        sample = dataclasses.replace(sample, bytes_out=self._nbytes, bytes_in=self._nbytes)
        summary = summarise(sample)
        cpu_s = used.cpu_ns / 1e9 if pids else float("nan")
        summary.figures["mb_per_cpu_s"] = sample.calls * self._nbytes / 1e6 / cpu_s if cpu_s else float("nan")
        summary.figures["server_cpu_us"] = cpu_s * 1e6 / max(1, sample.calls)
        return summary


def in_request(args: argparse.Namespace, server: Server, spec: InputSpec, in_flight: int) -> Callable[[], Summary]:
    """The tensor in the message; BenchError when the answer is not the input."""
    request = build_request(server.target.model, server.target.version, [spec])
    answer = first_answer(server.target, request, args.timeout)
    expected = pb.ModelInferResponse(raw_output_contents=pb.ModelInferRequest.FromString(request).raw_input_contents)
    expected.outputs.add(name=OUTPUT, datatype=spec.datatype, shape=spec.shape)
    # None: it has no such output.
    if largest_difference(answer, expected.SerializeToString()) != 0:
        raise BenchError(f"{server.target.label}: {server.target.model!r} doesn't give its input back")
    measurement = Measurement(server, tensor_bytes(spec), Phases(args.warmup, args.seconds))
    return lambda: measurement.run([request] * in_flight, len(answer))


def in_memory(
    args: argparse.Namespace, server: Server, spec: InputSpec, in_flight: int, stack: contextlib.ExitStack
) -> Callable[[], Summary]:
    """The tensor in the clients' regions; NotOffered when the server has no shared memory."""
    pairs = stack.enter_context(shared_regions.pairs(server.target, spec, OUTPUT, in_flight, args.timeout))
    answers = [first_answer(server.target, pair.request, args.timeout) for pair in pairs]
    measurement = Measurement(server, tensor_bytes(spec), Phases(args.warmup, args.seconds))

    def run() -> Summary:
        for pair in pairs:
            pair.clear()
        summary = measurement.run([pair.request for pair in pairs], len(answers[0]))
        if not all(pair.is_answered() for pair in pairs):
            raise BenchError(f"{server.target.label}: the answer is not in its region")
        return summary

    return run


def run_case(args: argparse.Namespace, under_test: list[Server], nbytes: int, in_flight: int) -> list[compare.Outcome]:
    """One size and number of clients: all servers by request, then what shared memory gains with each that has it."""
    name = f"{nbytes:,} B, {in_flight} in flight"
    runs: dict[str, Callable[[], Summary]] = {}
    with contextlib.ExitStack() as stack:
        for server in under_test:
            spec = close_axes(server.inputs[0], 1, nbytes)
            runs[server.target.label] = in_request(args, server, spec, in_flight)
            try:
                runs[f"{server.target.label}, shared"] = in_memory(args, server, spec, in_flight, stack)
            except shared_regions.NotOffered as error:
                print(f"  {name}: {server.target.label} has no shared memory: {error}", file=sys.stderr)
        whole = compare.in_turns(name, runs, args.rounds).rounds
    labels = [server.target.label for server in under_test]
    outcomes = [compare.Outcome(f"{name}, in the request", {label: whole[label] for label in labels})]
    for label in labels:
        if f"{label}, shared" in whole:
            both = {"shared memory": whole[f"{label}, shared"], "request": whole[label]}
            outcomes.append(compare.Outcome(f"{name}, {label}", both))
    return outcomes


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    command.check_above_zero(args, ("bytes", "in_flight", "seconds", "rounds", "timeout"))
    command.need_h2load()
    with tempfile.TemporaryDirectory(prefix="bench-echo-") as temporary:
        if args.folder is None:
            args.folder = Path(temporary) / "echo"
            echo_model.write(args.folder)
        args.model, args.input = args.model or "echo", []
        with servers.running(args, "server.shared_memory = true") as under_test:
            pin(args.client_cpus)
            cases = [(nbytes, in_flight) for nbytes in args.bytes for in_flight in args.in_flight]
            outcomes = [one for case in cases for one in run_case(args, under_test, *case)]
    options = {name: str(value) for name, value in vars(args).items()}
    return compare.report(outcomes, COLUMNS, options, as_document=args.json)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return command.answer("bench_tensors", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
