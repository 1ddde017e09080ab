"""scripts/bench_llm_step: loads a model folder in this process, decodes K sequences, and shares out each step's time.

Answers go through real sockets, as in the daemon; reading them is not part of the step. ``python_share`` is everything
but ``llama_decode``.
"""

import argparse
import json
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.calls import GenerateCall, Sampling
from appliance.engine.base import LoadOptions
from appliance.engine.llama.load import load
from appliance.store.model_folder import read
from appliance.worker.engine_connection import EngineConnection, SocketReply

EXAMPLES = """example:
  scripts/bench_llm_step FOLDER/smollm2 --sequences 1 8 16 --threads 2
"""


class Meter:
    """Adds up the time inside of some functions, without what they call of the others."""

    def __init__(self) -> None:
        self.ns: dict[str, int] = defaultdict(int)
        self._inner = [0]

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Replaces ``owner.name`` by itself with a stopwatch."""
        function = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            self._inner.append(0)
            began = time.perf_counter_ns()
            try:
                return function(*args, **options)
            finally:
                took = time.perf_counter_ns() - began
                self.ns[label] += took - self._inner.pop()
                self._inner[-1] += took

        setattr(owner, name, timed)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_llm_step",
        description="Python's share of a language model's step, by what it does.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folder", type=Path, help="a model folder (model.toml and its files)")
    made.add_argument("--sequences", type=int, nargs="+", default=[1, 8, 16], metavar="K")
    made.add_argument("--threads", type=int, default=0)
    made.add_argument("--max-tokens", type=int, default=64)
    made.add_argument("--temperature", type=float, default=0.0)
    made.add_argument("--json", action="store_true")
    return made


def run(args: argparse.Namespace) -> int:
    """Measures and prints; returns the exit status."""
    spec = read(args.folder).spec
    engine = load(spec, args.folder, LoadOptions(threads=args.threads))
    engine.warm_up()
    rows = [measure(engine, count, args) for count in args.sequences]
    engine.close()
    print(json.dumps(rows) if args.json else table(rows))
    return 0


def measure(engine: Any, count: int, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds a step of each part, while ``count`` sequences decode."""
    roster, meter = engine._generation.roster, Meter()
    ends = [submit(engine, number, args) for number in range(count)]
    while any(s.prefilling for s in roster.everybody()):
        engine.step()
    generator = engine._generation._generator
    watch(meter, engine._generation, generator, roster)
    steps, began = 0, time.perf_counter_ns()
    reading = 0
    while len(roster.running) == count:
        generator.step()
        steps += 1
        pause = time.perf_counter_ns()
        for end in ends:
            drain(end)
        reading += time.perf_counter_ns() - pause
    took = time.perf_counter_ns() - began - reading
    unwatch(engine._generation, generator, roster)
    while engine.has_work():
        engine.step()
    parts = {label: ns / steps / 1e6 for label, ns in meter.ns.items()}
    parts["other Python"] = (took - sum(meter.ns.values())) / steps / 1e6
    python = took / steps / 1e6 - parts["llama_decode"]
    whole = took / steps / 1e6
    return {"sequences": count, "step_ms": whole, "python_share": python / whole, **parts}


def watch(meter: Meter, generation: Any, generator: Any, roster: Any) -> None:
    """Puts stopwatches on this engine's parts."""
    parts: list[tuple[Any, str, str]] = [
        (generation.context, "decode", "llama_decode"),
        (roster, "sweep", "scheduler"),
        (roster, "admit", "scheduler"),
        (generator, "_plan", "scheduler"),
        (generator, "_fill", "batch fill"),
    ]
    for sequence in roster.running:
        parts += [(sequence.chooser, "choose", "sampling"), (sequence, "take", "text"), (sequence, "_send", "sending")]
    for owner, name, label in parts:
        meter.watch(owner, name, label)


def unwatch(*owners: Any) -> None:
    """Takes the stopwatches off again."""
    for owner in (*owners, owners[0].context):
        for name in [n for n, v in vars(owner).items() if isinstance(v, type(unwatch)) and v.__name__ == "timed"]:
            delattr(owner, name)


def submit(engine: Any, number: int, args: argparse.Namespace) -> socket.socket:
    """A call whose answers go through a socket; gives the client's end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    never: Callable[[Any, bool], None] = lambda _connection, _wanted: None  # noqa: E731
    call = GenerateCall(
        prompt=f"Case {number}: tell a story about the sea and the number {number}.",
        sampling=Sampling(temperature=args.temperature, seed=number),
        max_tokens=args.max_tokens,
        ignore_eos=True,
    )
    engine.submit(call, [], SocketReply(EngineConnection(theirs, never), 0))
    return ours


def drain(end: socket.socket) -> None:
    """Reads what has come."""
    try:
        while end.recv(65536):
            pass
    except BlockingIOError:
        return


def table(rows: list[dict[str, float]]) -> str:
    """One line a part, one column a number of sequences."""
    labels = [label for label in rows[0] if label not in {"sequences", "step_ms", "python_share"}]
    head = f"{'ms a step':<16}" + "".join(f"{row['sequences']:>8.0f} seq" for row in rows)
    lines = [head] + [f"{label:<16}" + "".join(f"{row.get(label, 0):>12.3f}" for row in rows) for label in labels]
    lines.append(f"{'whole step':<16}" + "".join(f"{row['step_ms']:>12.3f}" for row in rows))
    lines.append(f"{'Python':<16}" + "".join(f"{row['python_share']:>12.1%}" for row in rows))
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Entry point."""
    return run(parser().parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
