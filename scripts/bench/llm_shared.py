"""scripts/bench_llm shared: K clients with one long system prompt, cold and after, beside llama-server in turns."""

import argparse
from collections.abc import Callable, Sequence
from itertools import count

from bench import compare
from bench import llm_scenario as common
from bench.llama_peers import Server, running
from bench.llm_figures import wave_summary
from bench.llm_wave import run_wave
from bench.stats import Summary

COLUMNS = ["tokens_per_s", "ttft_p50_ms", "ttft_p95_ms", "ttft_max_ms", "prompt_tokens", "answer_tokens",
           "reused_tokens", "seconds"]  # fmt: skip
# The question, the template's own words and the lead of the system prompt, generously.
SLACK_TOKENS = 96
EXAMPLES = """  # alone
  scripts/bench_llm shared 127.0.0.1:8001 --model NAME --clients 8 16
  # in turns with a llama-server that is started anew for each round, with as many slots as clients
  scripts/bench_llm shared 127.0.0.1:8001 --model NAME --llama-server BUILD/bin/llama-server --gguf FILE.gguf \\
      --threads 2 --clients 8 16

cold:   the first calls that have this system prompt: all calls of all clients, from the first start to the last end
steady: the same number of calls again, with new questions and the same system prompt
Each round has a system prompt of its own that differs from its first tokens on, so that the appliance has none of it
computed; the peer is a fresh process besides.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = common.scenario_parser("shared", __doc__.partition(": ")[2], EXAMPLES, peer="llama-server")
    made.add_argument("--clients", type=int, nargs="+", default=[8, 16], metavar="K", help="default: 8 16")
    made.add_argument(
        "--calls", type=int, default=3, metavar="N", help="of each client, cold and again steady (default: 3)"
    )
    made.add_argument("--system-tokens", type=int, default=400, metavar="N", help="about (default: 400)")
    made.add_argument("--max-tokens", type=int, default=64, metavar="N", help="of each answer (default: 64)")
    made.add_argument("--keep-peer", action="store_true",
                      help="one llama-server for all rounds of a K, cold only by the new system prompt")  # fmt: skip
    return made


def questions(clients: int, calls: int, first: int) -> list[list[str]]:
    """Short, and none twice: client i's calls from number ``first`` on."""
    return [
        [f"Client {client} asks for the {number}th time: which belt does part {client * 7 + number} go to?"
         for number in range(first, first + calls)]
        for client in range(clients)
    ]  # fmt: skip


def one_round(args: argparse.Namespace, address: str, clients: int, name: str) -> list[Summary]:
    """The cold calls, then the steady ones, with one new system prompt."""
    ask = common.ask_of(args, args.max_tokens, system=common.unique_text(args.system_tokens, name))
    waves = [run_wave(address, ask, questions(clients, args.calls, first)) for first in (0, args.calls)]
    return [wave_summary([call for calls in wave for call in calls]) for wave in waves]


def measure(args: argparse.Namespace, clients: int, names: Callable[[], str]) -> list[compare.Outcome]:
    """All rounds with so many clients."""
    runs: dict[str, Callable[[], list[Summary]]] = {args.label: lambda: one_round(args, args.address, clients, names())}
    cases = [f"{clients} clients, {state}" for state in ("cold", "steady")]
    if not args.peer:
        return compare.cases_in_turns(cases, runs, args.rounds)
    server = Server(args.peer, common.gguf_of(args), clients, args.system_tokens + args.max_tokens + SLACK_TOKENS)
    if args.keep_peer:
        with running(server) as url:
            runs[args.peer.name] = lambda: one_round(args, url, clients, names())
            return compare.cases_in_turns(cases, runs, args.rounds)

    def fresh_peer() -> list[Summary]:
        with running(server) as url:
            return one_round(args, url, clients, names())

    runs[args.peer.name] = fresh_peer
    return compare.cases_in_turns(cases, runs, args.rounds)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    common.check(args, "clients", "calls", "system_tokens", "max_tokens")
    common.show_first_answer(args)
    rounds, nonce = count(), common.new_nonce()
    outcomes = []
    for clients in args.clients:
        outcomes += measure(args, clients, lambda: f"{nonce}{next(rounds)}")
    return compare.report(outcomes, COLUMNS, common.options_of(args), as_document=args.json)


def main(argv: Sequence[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return common.end_of(run, parser(), argv)
