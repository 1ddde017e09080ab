"""scripts/bench_llm intrusion: how a long prompt that arrives stretches the gaps between tokens of streams that run."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from bench import compare
from bench import llm_scenario as common
from bench.llama_peers import Server, running
from bench.llm_clients import connect
from bench.llm_figures import INTRUSION, intrusion_summary
from bench.llm_load import ask_once
from bench.llm_wave import Streams
from bench.stats import Summary

STREAM_PROMPT_TOKENS = 24
# Of each stream before the undisturbed time is counted: by then all are prefilled.
SETTLED_CHUNKS = 8
# Enough for a first token with text in it.
INTRUDER_TOKENS = 4
SLOT_TOKENS_MAX = 4096
EXAMPLES = """  # alone: 8 streams, a prompt of 2,000 tokens, three times
  scripts/bench_llm intrusion 127.0.0.1:8001 --model NAME
  # in turns with a fresh llama-server each round
  scripts/bench_llm intrusion 127.0.0.1:8001 --model NAME --llama-server BUILD/bin/llama-server --gguf FILE.gguf

p99_growth is the figure to look at: the gaps' 99th percentile while the prompt is computed, divided by the undisturbed
one. The prompt and the streams must fit into the model's context (model.toml: context_tokens).
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = common.scenario_parser("intrusion", __doc__.partition(": ")[2], EXAMPLES, peer="llama-server")
    made.add_argument("--streams", type=int, default=8, metavar="K", help="that run (default: 8)")
    made.add_argument(
        "--prompt-tokens", type=int, default=2000, metavar="N", help="of the intruder, about (default: 2000)"
    )
    made.add_argument(
        "--quiet", type=float, default=5.0, metavar="S", help="undisturbed seconds before it (default: 5)"
    )
    made.add_argument("--max-tokens", type=int, default=0, metavar="N",
                      help="of each stream; must outlast the prompt (default: as many as the server allows)")  # fmt: skip
    return made


def one_round(args: argparse.Namespace, address: str, names: Callable[[], str]) -> Summary:
    """Start the streams, let them run undisturbed, send the prompt, stop all when it has its first tokens."""
    name = names()
    prompts = [common.unique_text(STREAM_PROMPT_TOKENS, client, name) for client in range(args.streams)]
    intruder = connect(address)
    try:
        with Streams(address, common.ask_of(args, args.max_tokens, raw=True), prompts) as streams:
            streams.wait_until_all_speak(SETTLED_CHUNKS, args.timeout)
            opens = time.perf_counter_ns()
            time.sleep(args.quiet)
            ask = common.ask_of(args, INTRUDER_TOKENS, raw=True)
            call = ask_once(intruder, ask, common.unique_text(args.prompt_tokens, args.streams, name))
    finally:
        intruder.close()
    summary = intrusion_summary(streams.calls, call, opens)
    if summary.figures["streams_left"] < args.streams:
        print(
            "  some streams ended before the prompt was computed: raise --max-tokens, or shorten --quiet",
            file=sys.stderr,
        )
    return summary


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    common.check(args, "streams", "prompt_tokens", "quiet")
    if args.max_tokens < 0:
        raise ValueError(f"--max-tokens must not be below 0, got {args.max_tokens}")
    common.show_first_answer(args)
    rounds, nonce = count(), common.new_nonce()

    def names() -> str:
        return f"{nonce}{next(rounds)}"

    runs: dict[str, Callable[[], Summary]] = {args.label: partial(one_round, args, args.address, names)}
    if args.peer:
        server = Server(
            args.peer, common.gguf_of(args), args.streams + 1, max(SLOT_TOKENS_MAX, args.prompt_tokens + 256)
        )

        def fresh_peer() -> Summary:
            with running(server) as url:
                return one_round(args, url, names)

        runs[args.peer.name] = fresh_peer
    outcome = compare.in_turns(f"{args.streams} streams", runs, args.rounds)
    return compare.report([outcome], list(INTRUSION), common.options_of(args), as_document=args.json)


def main(argv: Sequence[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return common.end_of(run, parser(), argv)
