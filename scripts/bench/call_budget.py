"""scripts/bench_call_budget: where the microseconds of a small call go, by process and by stage."""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance import limits
from bench import command, h2load_driver
from bench.call_stages import ENGINE, FRONT_END, Stages
from bench.own_daemon import MODELS, OwnDaemon
from bench.payload import build_request, close_axes
from bench.process_costs import Usage, differences, read, tree_of
from bench.schedule import Phases
from bench.target import BenchError, Target, first_answer, model_inputs

LOAD = "h2load"
PROCESSES = (FRONT_END, ENGINE, "the rest of the daemon", LOAD)
EXAMPLES = """examples:
  # the demo's forest, a daemon of this checkout; the tables go into appliance/worker/README.md as they are
  scripts/bench_call_budget
  # another model, the whole of it as JSON
  scripts/bench_call_budget --folder FOLDER --in-flight 1 4 64 --json

By process: processor time, time spent ready but waiting for a processor, and context switches a call, from /proc, between
two moments under load; medians of the rounds. By stage: the daemon's own functions in this process, one after another, as
many calls to a batch as the engine's counters tell of the load. The rows "rest" are what a process uses beyond its stages:
gRPC, the interpreter's lock and thread switches, system calls and the kernel's sockets.
"""


@dataclass(frozen=True)
class Load:
    """One number of calls in flight: calls/s, p50, mean batch, and what each process used for one call."""

    in_flight: int
    calls_per_s: float
    p50_us: float
    batch: float
    per_call: dict[str, dict[str, float]]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="scripts/bench_call_budget",
        description=__doc__.partition(": ")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--folder", type=Path, default=MODELS / "breast-cancer", metavar="DIR",
                      help="an ONNX model's folder (default: .demo/models/breast-cancer)")  # fmt: skip
    made.add_argument("--in-flight", type=int, nargs="+", default=[1, 64], metavar="K", help="default: 1 64")
    made.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of each measurement (default: 3)")
    made.add_argument("--rounds", type=int, default=3, help="default: 3")
    made.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                      help="configuration of the daemon, such as server.front_ends=2 (default: as shipped)")  # fmt: skip
    made.add_argument("--json", action="store_true")
    return made


def per_call(used: Usage, calls: int) -> dict[str, float]:
    """Of one process, for one call."""
    return {
        "cpu_us": used.cpu_ns / 1e3 / calls,
        "waited_us": used.waited_ns / 1e3 / calls,
        "voluntary": used.voluntary / calls,
        "involuntary": used.involuntary / calls,
    }


def groups_of(daemon: OwnDaemon) -> dict[str, list[int]]:
    """The daemon's processes by what they are for; what is neither of these is the rest."""
    roles = {one.pid: one.role for one in daemon.status().processes}
    front_ends = [pid for pid, role in roles.items() if role.startswith("front-end")]
    others = [pid for pid, role in roles.items() if not role.startswith(("front-end", "engine"))]
    engines = [pid for pid in tree_of(daemon.pid) if pid not in front_ends and pid not in others]
    return {FRONT_END: front_ends, ENGINE: engines, PROCESSES[2]: others}


def _children_cpu_ns() -> int:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round((used.ru_utime + used.ru_stime) * 1e9)


def _executions(daemon: OwnDaemon) -> tuple[int, int]:
    """(rows, executions) of the engine, once its next sign of life has told them."""
    time.sleep(2 * limits.beat_interval_ms / 1000)
    counters = daemon.status().models[0].counters
    return counters.inference_count, counters.execution_count


def measure(daemon: OwnDaemon, target: Target, request: bytes, in_flight: int, seconds: float) -> Load:
    """One round under load; BenchError when a call failed."""
    groups, size = groups_of(daemon), len(first_answer(target, request, 10))
    rows, executions = _executions(daemon)
    before: dict[str, Usage] = {}
    children: list[int] = []

    def warm() -> None:
        before.update(read(groups))
        children.append(_children_cpu_ns())

    sample = h2load_driver.closed_loop(target, request, size, in_flight, 1, Phases(1.0, seconds), warm)
    used = differences(before, read(groups))
    used[LOAD] = Usage(cpu_ns=_children_cpu_ns() - children[0])
    if sample.errors:
        raise BenchError(f"{sum(sample.errors.values())} calls failed")
    now_rows, now_executions = _executions(daemon)
    batch = (now_rows - rows) / max(1, now_executions - executions)
    costs = {name: per_call(one, sample.calls) for name, one in used.items()}
    return Load(in_flight, sample.calls / sample.seconds, float(statistics.median(sample.latencies_us)), batch, costs)


def median_load(loads: Sequence[Load]) -> Load:
    """The medians of some rounds."""
    costs = {
        name: {figure: statistics.median(one.per_call[name][figure] for one in loads) for figure in figures}
        for name, figures in loads[0].per_call.items()
    }
    rate, p50_us, batch = (
        statistics.median(values)
        for values in zip(*((one.calls_per_s, one.p50_us, one.batch) for one in loads), strict=True)
    )
    return Load(loads[0].in_flight, rate, p50_us, batch, costs)


def process_table(loads: Sequence[Load]) -> str:
    """Markdown, one line a process."""
    lines = [
        "| a call | " + " | ".join(f"{one.in_flight} in flight" for one in loads) + " |",
        "|---" * (len(loads) + 1) + "|",
    ]
    lines.append("| calls a second | " + " | ".join(f"{one.calls_per_s:,.0f}" for one in loads) + " |")
    lines.append("| half of the calls take at most | " + " | ".join(f"{one.p50_us:,.0f} µs" for one in loads) + " |")
    lines.append("| calls run together, mean | " + " | ".join(f"{one.batch:.1f}" for one in loads) + " |")
    for name in PROCESSES:
        for figure, told in (("cpu_us", "{:.0f} µs of a processor"), ("waited_us", "{:.0f} µs waiting for one")):
            if name != LOAD or figure == "cpu_us":
                cells = [told.format(one.per_call[name][figure]).split(" ", 1) for one in loads]
                lines.append(f"| {name}: {cells[0][1]} | " + " | ".join(cell[0] for cell in cells) + " |")
        if name != LOAD:
            switches = [one.per_call[name] for one in loads]
            shown = [f"{one['voluntary']:.2f} + {one['involuntary']:.2f}" for one in switches]
            lines.append(f"| {name}: switches, own + forced | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def stage_table(loads: Sequence[Load], stages: Sequence[Sequence[tuple[str, str, float]]]) -> str:
    """Markdown, one line a stage in the order of a call, then what is left of each process."""
    head = " | ".join(f"{one.in_flight} in flight (batch {max(1, round(one.batch))})" for one in loads)
    lines = [f"| µs a call | process | {head} |", "|---" * (len(loads) + 2) + "|"]
    lines += [
        f"| {row[0][1]} | {row[0][0]} | " + " | ".join(f"{one[2]:.1f}" for one in row) + " |"
        for row in zip(*stages, strict=True)
    ]
    for process in (FRONT_END, ENGINE):
        rest = [
            load.per_call[process]["cpu_us"] - sum(us for name, _, us in found if name == process)
            for load, found in zip(loads, stages, strict=True)
        ]
        lines.append(f"| rest | {process} | " + " | ".join(f"{us:.1f}" for us in rest) + " |")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    command.need_h2load()
    command.check_above_zero(args, ("seconds", "rounds", "in_flight"))
    with OwnDaemon("\n".join(args.set)) as daemon:
        daemon.add(args.folder)
        model = daemon.status().models[0].name
        daemon.wait_ready([model])
        target = Target("appliance", daemon.address, model)
        request = build_request(model, "", [close_axes(one, 1) for one in model_inputs(target, 10)])
        rounds: dict[int, list[Load]] = {count: [] for count in args.in_flight}
        for number in range(args.rounds):
            for count, found in rounds.items():
                found.append(measure(daemon, target, request, count, args.seconds))
                print(f"  round {number + 1}/{args.rounds}, {count} in flight: {found[-1].calls_per_s:,.0f} calls/s",
                      file=sys.stderr)  # fmt: skip
    loads = [median_load(found) for found in rounds.values()]
    made = Stages(args.folder, request)
    stages = [made.measure(max(1, round(one.batch))) for one in loads]
    made.close()
    if args.json:
        document = [{**vars(load), "stages": found} for load, found in zip(loads, stages, strict=True)]
        print(json.dumps({"options": {k: str(v) for k, v in vars(args).items()}, "loads": document}, indent=2))
    else:
        print(process_table(loads), stage_table(loads, stages), sep="\n\n")
    return 0


def main(argv: list[str]) -> int:
    """Entry point; 2 when nothing could be measured."""
    return command.answer("bench_call_budget", parser(), run, argv)


if __name__ == "__main__":
    command.start(main)
