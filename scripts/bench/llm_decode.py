"""scripts/bench_llm decode: tokens a second of K streams that decode together, beside llama-batched-bench in turns."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from bench import compare
from bench import llm_scenario as common
from bench.llama_peers import batched_bench
from bench.llm_figures import decode_summary
from bench.llm_wave import run_wave
from bench.stats import Summary

COLUMNS = ["tokens_per_s", "counted_tokens", "prompt_tokens", "answer_tokens", "reused_tokens", "accepted_share"]
EXAMPLES = """  # alone
  scripts/bench_llm decode 127.0.0.1:8001 --model NAME --clients 1 8 16
  # in turns with llama-batched-bench (S_TG) over the same file, threads and lengths
  scripts/bench_llm decode 127.0.0.1:8001 --model NAME --llama-batched-bench BUILD/bin/llama-batched-bench \\
      --gguf FILE.gguf --threads 2 --clients 1 8 16

The peer neither samples nor speculates. Where the model speculates, accepted_share tells how much of our rate comes from
that (greedy answers without an end repeat themselves, which is easy to guess): for the bare comparison switch it off in
model.toml, or let the answers wander with --temperature 1.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = common.scenario_parser("decode", __doc__.partition(": ")[2], EXAMPLES, peer="llama-batched-bench")
    made.add_argument("--clients", type=int, nargs="+", default=[1, 8, 16], metavar="K", help="default: 1 8 16")
    made.add_argument("--prompt-tokens", type=int, default=128, metavar="N", help="about; -npp (default: 128)")
    made.add_argument("--max-tokens", type=int, default=128, metavar="N", help="of each answer; -ntg (default: 128)")
    return made


def one_round(args: argparse.Namespace, clients: int, name: str) -> Summary:
    """K answers at a time, each to a prompt of its own that was computed just before.

    Computed before, because what is measured is the decode: the prompts' prefill would spread the streams' beginnings over
    seconds, and the first would have ended before the last began.
    """
    prompts = [[common.unique_text(args.prompt_tokens, client, name)] for client in range(clients)]
    before = run_wave(args.address, common.ask_of(args, 1, raw=True), prompts)
    failed = [call for calls in before for call in calls if call.error]
    if failed:
        return decode_summary(failed)
    answers = run_wave(args.address, common.ask_of(args, args.max_tokens, raw=True), prompts)
    return decode_summary([call for calls in answers for call in calls])


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    common.check(args, "clients", "prompt_tokens", "max_tokens")
    common.show_first_answer(args)
    rounds, nonce = count(), common.new_nonce()
    outcomes = []
    for clients in args.clients:
        runs: dict[str, Callable[[], Summary]] = {
            args.label: lambda clients=clients: one_round(args, clients, f"{nonce}{next(rounds)}")
        }
        if args.peer:
            sizes = (args.prompt_tokens, args.max_tokens, clients)
            runs[args.peer.name] = partial(batched_bench, args.peer, common.gguf_of(args), *sizes)
        outcomes.append(compare.in_turns(f"decode, {clients} at a time", runs, args.rounds))
    return compare.report(outcomes, COLUMNS, common.options_of(args), as_document=args.json)


def main(argv: Sequence[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return common.end_of(run, parser(), argv)
