"""scripts/bench_models: what a call costs with one model, and with 50 registered and 10 of them loaded."""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench import command, compare, h2load_driver, tiny_models
from bench.own_daemon import OwnDaemon
from bench.payload import build_request, close_axes
from bench.schedule import Phases
from bench.stats import Sample, Summary, summarise
from bench.target import BenchError, Target, first_answer, model_inputs
from bench.thin_client import ThinClient

COLUMNS = ["calls_per_s", "p50_ms", "p99_ms"]
WARMUP_CALLS = 200
EXAMPLES = """examples:
  # 50 models registered, 10 loaded, against one
  scripts/bench_models
  scripts/bench_models --registered 200 --loaded 5 --rounds 3

Both daemons are of this checkout, as shipped, and run in turns, never at the same time: each is started again for each
round, with the models that it has in its store. "One at a time" and "in rotation" come from a client that takes 0.05 ms of
processor time a call; in rotation each call goes to the next of the loaded models (with one model: always to that one).
The exit status is 1 when any call failed, 2 when nothing could be measured.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_models",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--registered", type=int, default=50, metavar="N", help="default: 50")
    made.add_argument("--loaded", type=int, default=10, metavar="N", help="of these (default: 10)")
    made.add_argument("--in-flight", type=int, default=64, metavar="K", help="of the third case (default: 64)")
    made.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each case (default: 2)")
    made.add_argument("--rounds", type=int, default=5, help="figures are the medians of these (default: 5)")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                      help="configuration of both daemons (default: as shipped)")  # fmt: skip
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    return made


def fill(state: Path, folders: Sequence[Path], loaded: int, config: str) -> None:
    """A daemon's store with all of these, the first ``loaded`` of them active; what no call needs is only stored."""
    began = time.monotonic()
    with OwnDaemon(config, state) as daemon:
        for number, folder in enumerate(folders):
            daemon.add(folder, activate=number < loaded)
        daemon.wait_ready([folder.name for folder in folders[:loaded]])
    print(f"  added {len(folders)} models in {time.monotonic() - began:.0f} s", file=sys.stderr)


def one_at_a_time(target: Target, requests: Sequence[bytes], seconds: float) -> Summary:
    """Calls one after another, to each of the requests' models in turn."""
    client, errors = ThinClient(target), Counter[str]()
    answers = [len(client.call(request).data) for request in requests]
    try:
        for number in range(WARMUP_CALLS):
            client.call(requests[number % len(requests)])
        took, start, number = [], time.monotonic(), 0
        while time.monotonic() < start + seconds:
            place = number % len(requests)
            answer = client.call(requests[place])
            if len(answer.data) == answers[place] > 0:
                took.append((answer.ended_ns - answer.sent_ns) / 1e3)
            else:
                errors["NOT_OK"] += 1
            number += 1
        elapsed = time.monotonic() - start
    finally:
        client.close()
    return summarise(Sample(elapsed, len(took), np.asarray(took), errors, len(requests[0]), answers[0], "thin"))


def one_round(args: argparse.Namespace, state: Path, loaded: Sequence[str]) -> list[Summary]:
    """All cases with a daemon that was started just now."""
    with OwnDaemon("\n".join(args.set), state) as daemon:
        daemon.wait_ready(loaded)
        target = Target("appliance", daemon.address, loaded[0])
        inputs = [close_axes(one, 1) for one in model_inputs(target, 10)]
        requests = [build_request(name, "", inputs) for name in loaded]
        size = len(first_answer(target, requests[0], 10))
        load = h2load_driver.closed_loop(target, requests[0], size, args.in_flight, 1, Phases(1.0, args.seconds))
        return [
            one_at_a_time(target, requests[:1], args.seconds),
            one_at_a_time(target, requests, args.seconds),
            summarise(load),
        ]


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    command.check_above_zero(args, ("registered", "loaded", "in_flight", "seconds", "rounds"))
    if args.loaded > args.registered:
        raise BenchError(f"--loaded {args.loaded} is more than --registered {args.registered}")
    command.need_h2load()
    with tempfile.TemporaryDirectory(prefix="bench-models-") as temporary:
        root = Path(temporary)
        names = [tiny_models.write(root / "folders", number) for number in range(args.registered)]
        folders = [root / "folders" / name for name in names]
        fill(root / "many", folders, args.loaded, "\n".join(args.set))
        fill(root / "one", folders[:1], 1, "\n".join(args.set))
        runs: dict[str, Callable[[], list[Summary]]] = {
            f"{args.registered} registered, {args.loaded} loaded": partial(
                one_round, args, root / "many", names[: args.loaded]
            ),
            "one model": partial(one_round, args, root / "one", names[:1]),
        }
        cases = ["one at a time", "one at a time, in rotation", f"{args.in_flight} in flight"]
        outcomes = compare.cases_in_turns(cases, runs, args.rounds)
    options = {name: str(value) for name, value in vars(args).items()}
    return compare.report(outcomes, COLUMNS, options, as_document=args.json)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return command.answer("bench_models", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
