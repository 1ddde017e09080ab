"""scripts/bench_flood: a closed loop of small calls beside chats that saturate the cores; what each leaves the other."""

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

from bench import command, compare, h2load_driver
from bench.chats import Chats, tokens_between
from bench.llm_clients import Ask
from bench.llm_scenario import new_nonce
from bench.own_daemon import MODELS, OwnDaemon
from bench.payload import build_request, close_axes
from bench.schedule import Phases
from bench.stats import Summary, summarise
from bench.target import Target, first_answer, model_inputs

EXAMPLES = """examples:
  # some two minutes: a daemon of this checkout, two models of the demo (scripts/make_models .demo/models)
  scripts/bench_flood
  # lighter floods, too
  scripts/bench_flood --in-flight 4 16 64

Each round has three phases: the small calls alone, the chats alone, and both. A ratio is "both" over "alone": two halves are
an even share of a machine that either could use whole.

The exit status is 1 when any call failed, 2 when nothing could be measured.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_flood",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder of the model folders "
                      "(default: .demo/models)")  # fmt: skip
    made.add_argument("--classic", default="breast-cancer", metavar="NAME")
    made.add_argument("--language", default="smollm2", metavar="NAME")
    made.add_argument("--in-flight", type=int, nargs="+", default=[64], metavar="N", help="default: 64")
    made.add_argument("--connections", type=int, default=4, metavar="N", help="at most (default: 4)")
    made.add_argument("--chats", type=int, default=8, metavar="K", help="at a time (default: 8)")
    made.add_argument("--max-tokens", type=int, default=96, metavar="N", help="of each answer (default: 96)")
    made.add_argument("--seconds", type=float, default=6.0, metavar="S", help="of each phase (default: 6)")
    made.add_argument("--rounds", type=int, default=3, help="default: 3")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration of the daemon, "
                      "such as engines.realtime=false (default: as shipped)")  # fmt: skip
    made.add_argument("--timeout", type=float, default=10.0, metavar="S", help="of the first calls (default: 10)")
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    return made


class Bench:
    """One daemon, its two models, and what was measured: by case and by "both" or "alone", a summary each round."""

    def __init__(self, args: argparse.Namespace, address: str) -> None:
        self._args = args
        self._address = address
        self._target = Target("appliance", address, args.classic)
        specs = [close_axes(one, 1) for one in model_inputs(self._target, args.timeout)]
        self._request = build_request(args.classic, "", specs)
        self._answer_bytes = len(first_answer(self._target, self._request, args.timeout))
        self.found: dict[str, dict[str, list[Summary]]] = defaultdict(lambda: {"both": [], "alone": []})

    def flood(self, in_flight: int, phase: str, number: int) -> None:
        """A window of small calls."""
        args = self._args
        phases = Phases(1.0, args.seconds)
        sample = h2load_driver.closed_loop(
            self._target, self._request, self._answer_bytes, in_flight, args.connections, phases
        )
        self._keep(f"small calls, {in_flight} in flight", phase, number, summarise(sample))

    def chat_tokens(self, chats: Chats, opens: int, closes: int, case: str, phase: str, number: int) -> None:
        """What the chats had in a window; called when they have ended."""
        tokens = tokens_between(chats.calls, opens, closes)
        errors = sum(1 for call in chats.calls if call.error)
        figures = {"tokens_per_s": tokens / ((closes - opens) / 1e9)}
        summary = Summary(round(tokens), "python", figures, {"CHAT_FAILED": errors} if errors else {})
        self._keep(case, phase, number, summary)

    def _keep(self, case: str, phase: str, number: int, summary: Summary) -> None:
        self.found[case][phase].append(summary)
        rate = next(iter(summary.figures.items()))
        print(f"  round {number + 1}/{self._args.rounds}, {case}, {phase}: {rate[0]} {rate[1]:,.1f}", file=sys.stderr)

    def round(self, number: int) -> None:
        """All phases once. The chats alone come first or last, in turns."""
        args = self._args
        ask = Ask(args.language, max_tokens=args.max_tokens, temperature=0.8, ignore_eos=True)
        windows: list[tuple[str, str, int, int]] = []

        def window(phase: str, wait: "list[int] | None" = None) -> None:
            opens = time.perf_counter_ns()
            for in_flight in wait or []:
                self.flood(in_flight, phase, number)
                windows.append((f"chats, {in_flight} in flight", phase, opens, time.perf_counter_ns()))
                opens = time.perf_counter_ns()
            if not wait:
                time.sleep(args.seconds)
                closes = time.perf_counter_ns()
                windows.extend((f"chats, {n} in flight", phase, opens, closes) for n in args.in_flight)

        for in_flight in args.in_flight:
            self.flood(in_flight, "alone", number)
        with Chats(self._address, ask, args.chats, f"{new_nonce()}{number}") as chats:
            for alone in (True, False) if number % 2 == 0 else (False, True):
                window("alone") if alone else window("both", args.in_flight)
        for case, phase, opens, closes in windows:
            self.chat_tokens(chats, opens, closes, case, phase, number)


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    command.check_above_zero(args, ("in_flight", "connections", "chats", "max_tokens", "seconds", "rounds", "timeout"))
    command.need_h2load()
    with OwnDaemon("\n".join(args.set)) as daemon:
        for name in (args.classic, args.language):
            daemon.add(args.models / name)
        daemon.wait_ready([args.classic, args.language])
        bench = Bench(args, daemon.address)
        for number in range(args.rounds):
            bench.round(number)
    outcomes = [compare.Outcome(case, phases) for case, phases in bench.found.items()]
    options = {name: str(value) for name, value in vars(args).items()}
    columns = ["calls_per_s", "tokens_per_s", "p50_ms", "p99_ms", "p99_9_ms", "max_ms"]
    return compare.report(outcomes, columns, options, as_document=args.json)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return command.answer("bench_flood", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
