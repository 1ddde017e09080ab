"""scripts/bench_update: how long a release takes until a box serves it, and what the switch costs the calls meanwhile."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import command, compare
from bench.metronome import START_AHEAD_NS, Calls, Metronome, Window, may_be_realtime
from bench.mixed_figures import bodies_for, summary_of
from bench.own_daemon import MODELS, OwnDaemon
from bench.stats import Summary
from bench.target import BenchError, Target, model_inputs

EXAMPLES = """examples:
  # some two minutes: a daemon of this checkout, a publisher and a registry in a folder (scripts/make_models .demo/models)
  scripts/bench_update
  # a first look
  scripts/bench_update --rounds 2

Each round releases a version while a client calls the model at a fixed rate. Serving: from the start of `publish release` to
the moment when the new version is active. "switch" are the calls that were due from the release until a second after
that moment: the box polls, fetches, verifies, loads and proves the version beside the old one, and switches. "steady" are the
calls before and after. p50 and p99 count from when a call was due.

The exit status is 1 when any call failed, 2 when nothing could be measured.
"""
WARMUP_S, STEADY_S, AFTER_S = 1.0, 4.0, 1.0
SERVING_S_MAX = 60.0
WATCH_S = 0.01


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_update",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="folder of the model folders "
                      "(default: .demo/models)")  # fmt: skip
    made.add_argument("--model", default="breast-cancer", metavar="NAME")
    made.add_argument("--rate", type=float, default=200.0, metavar="R", help="calls/s (default: 200)")
    made.add_argument("--poll-seconds", type=float, default=5.0, metavar="S", help="of the box (default: 5)")
    made.add_argument("--rounds", type=int, default=5, help="releases (default: 5)")
    made.add_argument("--timeout", type=float, default=10.0, metavar="S", help="of the first calls (default: 10)")
    made.add_argument("--json", action="store_true", help="everything, each round included, on standard output")
    return made


class Publisher:
    """`appliance publish`, in a folder of its own."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.registry = folder / "registry"
        self._model = model
        if not model.is_dir():
            raise BenchError(f"no such model folder: {model}; make it: scripts/make_models {model.parent} {model.name}")
        self("init", "--prefix", "bench", "--registry", str(self.registry))
        self("line", "add", model.name)

    def pack(self, version: str) -> None:
        """The model under another version number."""
        made = self.folder / f"{self._model.name}-{version}"
        shutil.copytree(self._model, made)
        toml = made / "model.toml"
        lines = toml.read_text().splitlines(keepends=True)
        toml.write_text(
            "".join(f'version = "{version}"\n' if line.startswith("version = ") else line for line in lines)
        )
        self("pack", str(made))

    def release(self, version: str) -> None:
        """Signs it, and brings it to the registry."""
        self("release", self._model.name, version)

    def __call__(self, *arguments: str) -> None:
        run("publish", *arguments, "--folder", str(self.folder / "publisher"))


def run(*arguments: str) -> None:
    """One appliance command; BenchError when it fails."""
    environment = {**os.environ, "APPLIANCE_PUBLISH_PASSPHRASE": "of a benchmark"}
    command_line = [sys.executable, "-m", "appliance.cli.main", *arguments]
    done = subprocess.run(command_line, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"appliance {' '.join(arguments)}: {done.stdout}{done.stderr}")


def until_active(daemon: OwnDaemon, model: str, version: str) -> None:
    """Returns when the version is what unnamed calls get."""
    end = time.monotonic() + SERVING_S_MAX
    while time.monotonic() < end:
        if any(m.name == model and m.version == version and m.active for m in daemon.status().models):
            return
        time.sleep(WATCH_S)
    raise BenchError(f"{model} {version} was not active within {SERVING_S_MAX:g} s")


def split(calls: Calls, begins_ns: int, ends_ns: int) -> dict[str, Summary]:
    """The calls due between the two moments, and the others."""
    inside = (calls.due >= begins_ns) & (calls.due < ends_ns)
    parts = {"switch": inside, "steady": ~inside}
    return {
        name: summary_of(Calls(calls.due[part], calls.sent[part], calls.ended[part], calls.failed if name == "switch" else 0))
        for name, part in parts.items()
    }  # fmt: skip


def measure(args: argparse.Namespace, folder: Path) -> tuple[dict[str, list[Summary]], list[float]]:
    """Summaries by phase, and the seconds from each release to serving."""
    publisher = Publisher(folder, args.models / args.model)
    publisher.pack("2.0.0")
    publisher.release("2.0.0")
    config = "\n".join(
        [
            f'registry.url = "layout:{publisher.registry}"',
            'registry.prefix = "bench"',
            f"registry.poll_seconds = {args.poll_seconds}",
            "registry.probation_seconds = 0",
        ]
    )
    found: dict[str, list[Summary]] = {"switch": [], "steady": []}
    serving: list[float] = []
    with OwnDaemon(config) as daemon:
        run("registry", "trust", str(folder / "publisher/metadata/1.root.json"), "--yes", "--socket", daemon.socket)
        until_active(daemon, args.model, "2.0.0")
        target = Target("appliance", daemon.address, args.model)
        bodies = bodies_for(args.model, model_inputs(target, args.timeout), sequence_id=7)
        client = Metronome(target, realtime=may_be_realtime())
        for number in range(args.rounds):
            version = f"2.{number + 1}.0"
            publisher.pack(version)
            seconds = WARMUP_S + STEADY_S + args.poll_seconds + 5.0 + AFTER_S
            client.start(Window(time.monotonic_ns() + START_AHEAD_NS, args.rate, seconds, bodies))
            time.sleep(WARMUP_S + STEADY_S)
            begins_ns = time.monotonic_ns()
            publisher.release(version)
            until_active(daemon, args.model, version)
            active_ns = time.monotonic_ns()
            serving.append((active_ns - begins_ns) / 1e9)
            parts = split(client.result(seconds), begins_ns, active_ns + round(AFTER_S * 1e9))
            for name, summary in parts.items():
                found[name].append(summary)
            print(f"  round {number + 1}/{args.rounds}: serving after {serving[-1]:.2f} s", file=sys.stderr)
        client.close()
    return found, serving


def bench(args: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    command.check_above_zero(args, ("rate", "poll_seconds", "rounds", "timeout"))
    with tempfile.TemporaryDirectory(prefix="bench-update-") as folder:
        found, serving = measure(args, Path(folder))
    if not args.json:
        print(
            f"from release to serving, polls every {args.poll_seconds:g} s: median {np.median(serving):.2f} s, "
            f"longest {max(serving):.2f} s of {len(serving)}"
        )
    options = {**{name: str(value) for name, value in vars(args).items()}, "serving_s": serving}
    outcomes = [compare.Outcome(f"{args.model}, {args.rate:g} calls/s", found)]
    return compare.report(outcomes, ["p50_ms", "p99_ms", "max_ms"], options, as_document=args.json)


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return command.answer("bench_update", parser(), bench, argv)


if __name__ == "__main__":
    command.start(main)
