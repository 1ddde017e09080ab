"""scripts/bench_llm: options in, cases run, table out; or one of the scenarios."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import command, compare, llm_crowd, llm_decode, llm_intrusion, llm_shared
from bench.llm_clients import Ask, first_answer
from bench.llm_load import run_clients
from bench.llm_prompts import DEFAULT_PROMPT, Prompts, of_length
from bench.schedule import Phases
from bench.stats import Summary
from bench.target import BenchError, pin

COLUMNS = ["tokens_per_s", "stream_tokens_per_s", "ttft_p50_ms", "ttft_p99_ms", "gap_p50_ms", "gap_p99_ms",
           "prompt_tokens", "answer_tokens"]  # fmt: skip
SCENARIOS = {
    "decode": llm_decode.main,
    "shared": llm_shared.main,
    "intrusion": llm_intrusion.main,
    "crowd": llm_crowd.main,
}
EXAMPLES = """scenarios, each with a --help of its own:
  scripts/bench_llm decode ADDRESS ...     K streams that decode together, beside llama-batched-bench
  scripts/bench_llm shared ADDRESS ...     K clients with one system prompt, cold and after, beside llama-server
  scripts/bench_llm intrusion ADDRESS ...  gaps between tokens of running streams while a long prompt arrives
  scripts/bench_llm crowd ADDRESS ...      64 clients at once: errors, fairness, memory over 1,000 requests

examples:
  # 1, 2 and 4 clients with the same question
  scripts/bench_llm 127.0.0.1:8001 --model NAME --clients 1 2 4
  # prompts of 500 tokens, none like another, so that no cache of prompts helps
  scripts/bench_llm 127.0.0.1:8001 --model NAME --prompt-tokens 500 --own-prompts --clients 4
  # beside llama-server with the same file and the same number of threads, in turns
  llama-server -m FILE.gguf --host 127.0.0.1 --port 8080 -t 2 -np 4 -c 8192
  scripts/bench_llm 127.0.0.1:8001 --model NAME --peer http://127.0.0.1:8080 --clients 1 4

Greedy decoding by default, so that both servers say about the same. The exit status is 1 when any call failed, 2 when
nothing could be measured.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_llm",
        description="Language-model streams: tokens/s, time to first token, gaps; one server or two in turns.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("address", help="host:port or unix:/path of the appliance, or http://host:port")
    made.add_argument("--model", required=True)
    made.add_argument("--version", default="")
    made.add_argument("--clients", type=int, nargs="+", default=[1], metavar="K", help="streams at a time (default: 1)")
    prompt = made.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", default=DEFAULT_PROMPT)
    prompt.add_argument("--prompt-file", type=Path)
    prompt.add_argument("--prompt-tokens", type=int, metavar="N", help="a made-up text of about N tokens")
    made.add_argument(
        "--own-prompts", action="store_true", help="every call begins differently (default: all the same)"
    )
    made.add_argument("--raw", action="store_true", help="continue the text: Generate, /v1/completions (default: chat)")
    made.add_argument(
        "--system", default="", metavar="TEXT", help="a system message before the prompt (not with --raw)"
    )
    made.add_argument("--max-tokens", type=int, default=64)
    made.add_argument("--ignore-eos", action="store_true", help="every answer has --max-tokens tokens")
    made.add_argument("--temperature", type=float, default=0.0)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--warmup", type=float, default=2.0, metavar="S")
    made.add_argument("--duration", type=float, default=15.0, metavar="S", help="measured seconds of each round")
    made.add_argument("--rounds", type=int, default=3, help="figures are the medians of these (default: 3)")
    made.add_argument("--timeout", type=float, default=120.0, metavar="S", help="of each call")
    made.add_argument("--client-cpus", metavar="LIST", help='pin the load generator to these cores, such as "1"')
    made.add_argument("--label", default="appliance")
    made.add_argument("--peer", metavar="ADDRESS", help="a second server, in turns: http://host:port or as ADDRESS")
    made.add_argument("--peer-model", help="default: as --model")
    made.add_argument("--peer-version", default="")
    made.add_argument("--peer-label", default="peer")
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    return made


def check_options(args: argparse.Namespace) -> None:
    """BenchError for values that make no sense."""
    positive = {"--clients": args.clients, "--max-tokens": [args.max_tokens], "--duration": [args.duration],
                "--rounds": [args.rounds], "--timeout": [args.timeout],
                "--prompt-tokens": [] if args.prompt_tokens is None else [args.prompt_tokens]}  # fmt: skip
    for name, values in positive.items():
        if any(value <= 0 for value in values):
            raise BenchError(f"{name} must be above 0, got {', '.join(f'{value:g}' for value in values)}")
    if args.warmup < 0:
        raise BenchError(f"--warmup must not be below 0, got {args.warmup:g}")
    if args.raw and args.system:
        raise BenchError("--raw sends the prompt alone: leave --system out, or put it into the prompt")
    if args.peer and args.label == args.peer_label:
        raise BenchError(f"--label and --peer-label are both {args.label!r}")


def prompts_of(args: argparse.Namespace) -> Prompts:
    """What is asked; BenchError when the file can't be read."""
    if args.prompt_tokens is not None:
        return Prompts(of_length(args.prompt_tokens), args.own_prompts)
    if args.prompt_file is not None:
        try:
            return Prompts(args.prompt_file.read_text(encoding="utf-8"), args.own_prompts)
        except (OSError, UnicodeDecodeError) as error:
            raise BenchError(f"--prompt-file {args.prompt_file}: {error}") from None
    return Prompts(args.prompt, args.own_prompts)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    check_options(args)
    pin(args.client_cpus)
    prompts = prompts_of(args)
    phases = Phases(args.warmup, args.duration)
    sides = [(args.label, args.address, args.model, args.version)]
    if args.peer:
        sides.append((args.peer_label, args.peer, args.peer_model or args.model, args.peer_version))
    outcomes = []
    how = (args.max_tokens, args.temperature, args.seed, args.raw, args.timeout, args.ignore_eos, args.system)
    asks = {label: (address, Ask(model, version, *how)) for label, address, model, version in sides}
    for label, (address, ask) in asks.items():
        print(f"  {label} says: {first_answer(label, address, ask, prompts.of(0, 0))[:160]!r}", file=sys.stderr)
    for clients in args.clients:
        runs: dict[str, Callable[[], Summary]] = {
            label: partial(run_clients, address, ask, prompts, clients, phases)
            for label, (address, ask) in asks.items()
        }
        outcomes.append(compare.in_turns(f"{clients} client{'s' if clients > 1 else ''}", runs, args.rounds))
    options: dict[str, object] = {name: str(value) for name, value in vars(args).items()}
    return compare.report(outcomes, COLUMNS, options, as_document=args.json)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    if argv and argv[0] in SCENARIOS:
        return SCENARIOS[argv[0]](argv[1:])
    return command.answer("bench_llm", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
