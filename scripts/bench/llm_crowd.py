"""scripts/bench_llm crowd: many clients at once, whether all get through alike, and whether memory stays flat."""

import argparse
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import grpc

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc
from bench import compare
from bench import llm_scenario as common
from bench.llm_figures import crowd_summary, memory_growth
from bench.llm_prompts import DEFAULT_PROMPT
from bench.llm_wave import run_wave
from bench.stats import Summary
from bench.target import BenchError, Target, call_error, open_channel

COLUMNS = ["slowest_to_mean", "tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "ttft_max_ms", "answer_tokens", "seconds"]
STATUS_TIMEOUT_S = 10.0
EXAMPLES = """  # 64 clients with 3 calls each
  scripts/bench_llm crowd 127.0.0.1:8001 --model NAME
  # and 1,000 calls more, with the engine's resident memory after each 100
  scripts/bench_llm crowd 127.0.0.1:8001 --model NAME --socket /run/inference-appliance/appliance.sock

slowest_to_mean: the slowest client's time for all of its calls, divided by the clients' mean
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = common.scenario_parser("crowd", __doc__.partition(": ")[2], EXAMPLES)
    made.add_argument("--clients", type=int, default=64, metavar="K", help="at once (default: 64)")
    made.add_argument("--calls", type=int, default=3, metavar="N", help="of each client (default: 3)")
    made.add_argument("--max-tokens", type=int, default=32, metavar="N", help="of each answer (default: 32)")
    made.add_argument("--socket", type=Path, help="the daemon's unix socket; without it memory is left out")
    made.add_argument("--requests", type=int, default=1000, metavar="N", help="while memory is watched (default: 1000)")
    made.add_argument("--sample-every", type=int, default=100, metavar="N", help="requests (default: 100)")
    return made


def engine_memory(socket: Path, model: str, version: str) -> int:
    """Resident bytes of the model's engine, as Admin.Status tells them; BenchError when it tells none."""
    target = Target("the daemon", f"unix:{socket}", model, version)
    with open_channel(target.address) as channel:
        try:
            status = admin_pb2_grpc.AdminStub(channel).Status(admin_pb2.StatusRequest(), timeout=STATUS_TIMEOUT_S)
        except grpc.RpcError as error:
            raise call_error(target, "Admin.Status", error) from error
    for one in status.models:
        if one.name == model and (one.version == version if version else one.active) and one.memory_bytes:
            return int(one.memory_bytes)
    raise BenchError(f"Admin.Status tells no memory of {model!r}: is it loaded?")


def prompts(name: str, clients: int, calls: int) -> list[list[str]]:
    """None like another."""
    return [[f"Case {name}-{client}-{call}. {DEFAULT_PROMPT}" for call in range(calls)] for client in range(clients)]


def shares(requests: int, clients: int) -> list[int]:
    """How many requests each client makes, so that all make ``requests`` together; clients without any are left out."""
    each, more = divmod(requests, clients)
    return [each + (number < more) for number in range(clients) if each or number < more]


def crowd(args: argparse.Namespace, name: str) -> Summary:
    """One round of the crowd."""
    calls = run_wave(args.address, common.ask_of(args, args.max_tokens), prompts(name, args.clients, args.calls))
    return crowd_summary(calls)


def watch_memory(args: argparse.Namespace, name: str) -> tuple[compare.Outcome, list[str]]:
    """Requests in portions, and the engine's memory before, between and after; also the names of the table's columns."""
    samples = [(0, engine_memory(args.socket, args.model, args.version))]
    calls, errors = 0, dict[str, int]()
    while samples[-1][0] < args.requests:
        done = samples[-1][0]
        portion = min(args.sample_every, args.requests - done)
        asked = [
            [f"Case {name}-{done}-{client}-{call}. {DEFAULT_PROMPT}" for call in range(share)]
            for client, share in enumerate(shares(portion, args.clients))
        ]
        summary = crowd_summary(run_wave(args.address, common.ask_of(args, args.max_tokens), asked))
        calls += summary.calls
        for code, failed in summary.errors.items():
            errors[code] = errors.get(code, 0) + failed
        samples.append((done + portion, engine_memory(args.socket, args.model, args.version)))
        print(f"  after {samples[-1][0]:,} requests: {samples[-1][1] / 1e6:,.1f} MB", file=sys.stderr)
    figures = {"growth_mb": memory_growth(samples)}
    figures |= {f"mb_after_{done}": memory / 1e6 for done, memory in samples}
    summary = Summary(calls, "python", figures, errors)
    return compare.Outcome(f"memory, {args.requests:,} requests", {args.label: [summary]}), list(figures)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    common.check(args, "clients", "calls", "max_tokens", "requests", "sample_every")
    if args.socket:
        engine_memory(args.socket, args.model, args.version)
    common.show_first_answer(args)
    rounds, nonce = count(), common.new_nonce()
    case = f"{args.clients} clients, {args.calls} calls each"
    sections = [
        ([compare.in_turns(case, {args.label: lambda: crowd(args, f"{nonce}{next(rounds)}")}, args.rounds)], COLUMNS)
    ]
    if args.socket:
        outcome, columns = watch_memory(args, f"{nonce}{next(rounds)}")
        sections.append(([outcome], columns))
    return compare.report_sections(sections, common.options_of(args), as_document=args.json)


def main(argv: Sequence[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return common.end_of(run, parser(), argv)
