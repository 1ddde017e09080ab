"""scripts/bench_mixed: classic models at fixed rates while chats saturate the cores; what each costs the other."""

import argparse
import contextlib
import random
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import command, compare
from bench.chats import Chats, tokens_between
from bench.llm_clients import Ask
from bench.llm_load import Call
from bench.llm_scenario import new_nonce
from bench.metronome import NO_CALLS, START_AHEAD_NS, Bodies, Calls, Metronome, Window, may_be_realtime
from bench.mixed_figures import FIGURES, bodies_for, summary_of, verdicts
from bench.own_daemon import MODELS, OwnDaemon
from bench.process_costs import Busyness
from bench.stats import Summary
from bench.target import BenchError, Target, first_answer, model_inputs

WARMUP_S = 0.5
# The two clients begin up to this far apart, another time in each round: their calls coincide by chance, not by plan.
OFFSET_S_MAX = 0.01
P99_GROWTH_MAX, TOKENS_KEPT_MIN = 1.5, 0.9
EXAMPLES = """examples:
  # some 4 minutes: a daemon of this checkout, three models of the demo (scripts/make_models .demo/models)
  scripts/bench_mixed
  # a first look
  scripts/bench_mixed --rounds 1 --seconds 3
  # what the bounded real-time class is worth, and with the measuring clients at normal priority only
  scripts/bench_mixed --set engines.realtime=false --client normal

Each round has three phases: idle (the classic models alone), language (the chats alone), mixed (both). Percentiles are of
all rounds' calls together, tokens/s the median of the rounds. p50 and p99 count from when a call was due, call_p50 and
call_p99 from when it was sent; late_p99 is the client's own delay. The clients are processes of their own with a client
that takes 0.05 ms of processor time a call. With --client both each phase is measured twice: by clients of normal priority,
and by clients under SCHED_RR (needs root or RLIMIT_RTPRIO), which shows the server's part without the client's wake-up.

The exit status is 1 when any call failed, 2 when nothing could be measured.
"""


@dataclass
class Record:
    """What was measured, by (model, client, phase); chats by round."""

    windows: dict[tuple[str, str, str], list[Calls]] = field(default_factory=lambda: defaultdict(list))
    chat_calls: list[list[Call]] = field(default_factory=list)
    # (round, phase, client) of each window with chats, with its first and last moment.
    chat_windows: list[tuple[int, str, str, int, int]] = field(default_factory=list)
    busy: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Player:
    """One classic model and its clients, by client class."""

    model: str
    rate: float
    bodies: Bodies
    clients: dict[str, Metronome]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_mixed",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder of the model folders "
                      "(default: .demo/models)")  # fmt: skip
    made.add_argument("--forest", default="breast-cancer", metavar="NAME")
    made.add_argument("--forest-rate", type=float, default=100.0, metavar="R", help="calls/s (default: 100)")
    made.add_argument("--sound", default="silero-vad", metavar="NAME")
    made.add_argument("--sound-rate", type=float, default=30.0, metavar="R", help="calls/s (default: 30)")
    made.add_argument("--language", default="smollm2", metavar="NAME")
    made.add_argument("--chats", type=int, default=8, metavar="K", help="at a time (default: 8)")
    made.add_argument("--max-tokens", type=int, default=96, metavar="N", help="of each answer (default: 96)")
    made.add_argument("--seconds", type=float, default=7.0, metavar="S", help="of each phase and client (default: 7)")
    made.add_argument("--rounds", type=int, default=5, help="default: 5")
    made.add_argument("--client", choices=["normal", "realtime", "both"], default="both",
                      help="scheduling class of the measuring clients (default: both, if it is allowed)")  # fmt: skip
    made.add_argument("--client-realtime", dest="client", action="store_const", const="realtime",
                      help="the same as --client realtime")  # fmt: skip
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration of the daemon, "
                      "such as engines.realtime=false (default: as shipped)")  # fmt: skip
    made.add_argument("--timeout", type=float, default=10.0, metavar="S", help="of the first calls (default: 10)")
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    return made


def client_classes(wanted: str) -> list[str]:
    """Which clients measure; BenchError when the real-time class was asked for by name and is not allowed."""
    if wanted == "normal" or may_be_realtime():
        return ["normal", "realtime"] if wanted == "both" else [wanted]
    if wanted == "realtime":
        raise BenchError("--client realtime: this user may not use SCHED_RR (root or RLIMIT_RTPRIO)")
    print("  without clients under SCHED_RR: this user may not use it", file=sys.stderr)
    return ["normal"]


def make_player(
    args: argparse.Namespace,
    daemon: OwnDaemon,
    model: str,
    rate: float,
    stack: contextlib.ExitStack,
    classes: list[str],
) -> Player:
    """A model's requests, tried once, and its clients, warm."""
    target = Target("appliance", daemon.address, model)
    bodies = bodies_for(model, model_inputs(target, args.timeout), sequence_id=7)
    for body in dict.fromkeys((bodies.first, bodies.middle, bodies.last)):
        first_answer(target, body, args.timeout)
    clients = {}
    for name in classes:
        clients[name] = Metronome(target, realtime=name == "realtime")
        stack.callback(clients[name].close)
        clients[name].start(Window(time.monotonic_ns() + START_AHEAD_NS, rate, WARMUP_S, bodies))
        clients[name].result(WARMUP_S)
    return Player(model, rate, bodies, clients)


def play(players: Sequence[Player], name: str, offset_s: float, seconds: float) -> dict[str, Calls]:
    """One window of all classic models with clients of one class."""
    start = time.monotonic_ns() + START_AHEAD_NS
    for place, player in enumerate(players):
        moment = start + round(place * offset_s * 1e9)
        player.clients[name].start(Window(moment, player.rate, seconds, player.bodies))
    return {player.model: player.clients[name].result(seconds) for player in players}


def one_round(args: argparse.Namespace, number: int, address: str, players: list[Player], record: Record) -> None:
    """Idle, then the chats alone and mixed, in an order that changes from round to round."""
    offset = random.Random(number).uniform(0, OFFSET_S_MAX)
    classes = list(players[0].clients)
    if number % 2:
        classes.reverse()

    def classic(phase: str, name: str) -> None:
        busy, opens = Busyness(), time.perf_counter_ns()
        for model, calls in play(players, name, offset, args.seconds).items():
            record.windows[model, name, phase].append(calls)
            print(f"  round {number + 1}/{args.rounds}, {phase}, {name} client, {model}: p99 "
                  f"{summary_of(calls).figures['p99_ms']:.2f} ms", file=sys.stderr)  # fmt: skip
        record.busy[phase].append(busy.share())
        if phase == "mixed":
            record.chat_windows.append((number, phase, name, opens, time.perf_counter_ns()))

    def language() -> None:
        busy, opens = Busyness(), time.perf_counter_ns()
        time.sleep(args.seconds)
        record.busy["language"].append(busy.share())
        record.chat_windows.append((number, "language", "", opens, time.perf_counter_ns()))

    for name in classes:
        classic("idle", name)
    ask = Ask(args.language, max_tokens=args.max_tokens, temperature=0.8, ignore_eos=True)
    with Chats(address, ask, args.chats, f"{new_nonce()}{number}") as chats:
        if number % 2 == 0:
            language()
        for name in classes:
            classic("mixed", name)
        if number % 2:
            language()
    record.chat_calls.append(chats.calls)


def outcomes_of(record: Record) -> tuple[list[compare.Outcome], list[compare.Outcome]]:
    """The classic models' (mixed against idle) and the chats' (mixed against alone)."""
    latencies = []
    for model, name in dict.fromkeys((model, name) for model, name, _ in record.windows):
        pooled = {}
        for phase in ("mixed", "idle"):
            calls = NO_CALLS
            for one in record.windows[model, name, phase]:
                calls = calls.joined(one)
            pooled[phase] = [summary_of(calls)]
        latencies.append(compare.Outcome(f"{model}, {name} client", pooled))
    rates: dict[str, list[Summary]] = defaultdict(list)
    for number, phase, name, opens, closes in record.chat_windows:
        chat_calls = record.chat_calls[number]
        tokens = tokens_between(chat_calls, opens, closes)
        errors = sum(1 for call in chat_calls if call.error)
        summary = Summary(round(tokens), "python", {"tokens_per_s": tokens / ((closes - opens) / 1e9)},
                          {"CHAT_FAILED": errors} if errors else {})  # fmt: skip
        rates["alone" if phase == "language" else f"mixed, {name}"].append(summary)
    chats = [
        compare.Outcome(f"chats, {name.partition(', ')[2]} client", {"mixed": found, "alone": rates["alone"]})
        for name, found in rates.items()
        if name != "alone"
    ]
    return latencies, chats


def show(record: Record, args: argparse.Namespace) -> int:
    """Print it all; returns the exit status."""
    latencies, chats = outcomes_of(record)
    ratios, targets = {}, {}
    for outcomes, figure, sense, target in (
        (latencies, "p99_ms", "<=", P99_GROWTH_MAX),
        (chats, "tokens_per_s", ">=", TOKENS_KEPT_MIN),
    ):
        for outcome in outcomes:
            name = f"{outcome.case}: {figure} mixed / {'idle' if figure == 'p99_ms' else 'alone'}"
            ratios[name], targets[name] = (outcome.ratio or {}).get(figure, float("nan")), (sense, target)
    busy = {phase: sum(shares) / len(shares) for phase, shares in record.busy.items()}
    if args.json:
        context: dict[str, object] = {
            "options": {name: str(value) for name, value in vars(args).items()},
            "ratios": ratios,
            "machine_busy": busy,
            "windows": [
                {"model": model, "client": name, "phase": phase, **summary_of(calls).as_json()}
                for (model, name, phase), found in record.windows.items()
                for calls in found
            ],
        }
        print(compare.as_json([*latencies, *chats], context))
    else:
        print(compare.table(latencies, list(FIGURES)))
        print()
        print(compare.table(chats, ["tokens_per_s"]))
        print("\nprocessors in use: " + ", ".join(f"{phase} {share:.0%}" for phase, share in busy.items()))
        print("\n".join(verdicts(ratios, targets)))
    return compare.exit_status([*latencies, *chats])


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    command.check_above_zero(args, ("forest_rate", "sound_rate", "chats", "max_tokens", "seconds", "rounds", "timeout"))
    classes = client_classes(args.client)
    record = Record()
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(OwnDaemon("\n".join(args.set)))
        names = [args.forest, args.sound, args.language]
        for name in names:
            daemon.add(args.models / name)
        daemon.wait_ready(names)
        rates = {args.forest: args.forest_rate, args.sound: args.sound_rate}
        players = [make_player(args, daemon, model, rate, stack, classes) for model, rate in rates.items()]
        for number in range(args.rounds):
            one_round(args, number, daemon.address, players, record)
    return show(record, args)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return command.answer("bench_mixed", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
