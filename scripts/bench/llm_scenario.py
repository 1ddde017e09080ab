"""What the scenarios of bench_llm have in common: options, checks, prompts, the way they end."""

import argparse
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.llama_peers import BUILD, Gguf
from bench.llm_clients import Ask, first_answer
from bench.llm_prompts import of_length
from bench.target import BenchError, pin

ENDING = """
The exit status is 1 when any call failed, 2 when nothing could be measured. Let nothing else run on the machine.
"""


def scenario_parser(name: str, description: str, examples: str, *, peer: str = "") -> argparse.ArgumentParser:
    """The common command line; ``peer`` is the program of llama.cpp that can be measured in turns."""
    made = argparse.ArgumentParser(
        prog=f"scripts/bench_llm {name}",
        description=description,
        epilog=f"examples:\n{examples}\n{BUILD if peer else ''}{ENDING}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("address", help="host:port or unix:/path of the appliance, or http://host:port")
    made.add_argument("--model", required=True)
    made.add_argument("--version", default="")
    made.add_argument("--temperature", type=float, default=0.0)
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--rounds", type=int, default=3, help="figures are the medians of these (default: 3)")
    made.add_argument("--timeout", type=float, default=300.0, metavar="S", help="of each call (default: 300)")
    made.add_argument("--client-cpus", metavar="LIST", help='pin the load generator to these cores, such as "1"')
    made.add_argument("--label", default="appliance")
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    if peer:
        variable = peer.upper().replace("-", "_")
        default = os.environ.get(variable)
        made.add_argument(f"--{peer}", dest="peer", type=Path, metavar="PROGRAM", default=Path(default) if default else None,
                          help=f"measure it in turns (default: the variable {variable}, else no peer)")  # fmt: skip
        made.add_argument("--gguf", type=Path, metavar="FILE", help="for the peer: the file that the appliance serves")
        made.add_argument(
            "--threads", type=int, default=2, help="for the peer: as the appliance's model has (default: 2)"
        )
    return made


def check(args: argparse.Namespace, *positive: str) -> None:
    """BenchError for values that make no sense; pins the process."""
    for name in ("rounds", "timeout", *positive):
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value <= 0:
                raise BenchError(f"--{name.replace('_', '-')} must be above 0, got {value:g}")
    peer: Path | None = getattr(args, "peer", None)
    if peer is not None:
        if not os.access(peer, os.X_OK) or not peer.is_file():
            raise BenchError(f"{peer}: no such program; --help tells how to build it")
        if args.gguf is None or not args.gguf.is_file():
            raise BenchError(f"--gguf: {'no such file: ' + str(args.gguf) if args.gguf else 'the peer needs it'}")
        if args.threads <= 0:
            raise BenchError(f"--threads must be above 0, got {args.threads}")
        if args.label == peer.name:
            raise BenchError(f"--label {args.label!r} is the peer's name")
    pin(args.client_cpus)


def gguf_of(args: argparse.Namespace) -> Gguf:
    """What the peer loads."""
    return Gguf(args.gguf.resolve(), args.threads)


def ask_of(args: argparse.Namespace, max_tokens: int, *, raw: bool = False, system: str = "") -> Ask:
    """What every call of a scenario asks: exactly ``max_tokens`` tokens, so that all do the same work."""
    return Ask(
        model=args.model,
        version=args.version,
        max_tokens=max_tokens,
        temperature=args.temperature,
        seed=args.seed,
        raw=raw,
        timeout_s=args.timeout,
        ignore_eos=True,
        system=system,
    )


def show_first_answer(args: argparse.Namespace) -> None:
    """One real answer, on standard error; BenchError if there is none."""
    ask = ask_of(args, 16)
    print(f"  {args.label} says: {first_answer(args.label, args.address, ask, 'Say hello.')[:160]!r}", file=sys.stderr)


def new_nonce() -> str:
    """What makes a prompt differ from every prompt before it, in this run and in others: no server has it computed."""
    return secrets.token_hex(3)


def unique_text(tokens: int, *name: object) -> str:
    """A text of about ``tokens`` tokens that differs from that of any other name within its first tokens."""
    lead = "-".join(str(part) for part in name) + ": "
    # A digit or a few letters are a token of their own; then one word each.
    return lead + of_length(max(1, tokens - round(len(lead) * 0.75)))


def options_of(args: argparse.Namespace) -> dict[str, object]:
    """For the JSON document."""
    return {name: str(value) for name, value in vars(args).items()}


def end_of(run: Callable[[argparse.Namespace], int], made: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    """Parse and run; 2 when nothing could be measured."""
    try:
        return run(made.parse_args(argv))
    except (BenchError, ValueError) as error:
        print(f"{made.prog.rpartition('/')[2]}: {error}", file=sys.stderr)
        return 2
