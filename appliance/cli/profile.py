"""`appliance models profile`: where a model's time goes, operator by operator, measured while it serves."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from appliance import limits
from appliance.cli import output
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.cli.options import Json, ModelName, Target, connected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.cli.client import Client

# Beside the measuring itself: the model is loaded a second time, and the file is written and sent.
_MORE_SECONDS = 120.0
_TICK_SECONDS = 0.25
_ROWS_MAX = 20
_COLUMNS: list[tuple[str, output.Justify]] = [
    ("OPERATOR", "left"),
    ("COUNT", "right"),
    ("TOTAL MS", "right"),
    ("MEAN US", "right"),
    ("SHARE", "right"),
]


class _Arguments(msgspec.Struct, frozen=True):
    op_name: str = ""


class _Event(msgspec.Struct, frozen=True):
    """An event of ONNX Runtime's profile (the format of Chrome's trace viewer); ``dur`` in microseconds."""

    name: str = ""
    cat: str = ""
    dur: float = 0.0
    args: _Arguments = _Arguments()


class Operator(NamedTuple):
    """All operators of one type; ``share`` of the model's running time. Those in a Loop or If count in that as well."""

    type: str
    runs: int
    total_us: float
    share: float


def operators(profile: bytes) -> list[Operator]:
    """By type, the longest first. Raises ValueError for what is no profile."""
    totals: dict[str, tuple[int, float]] = {}
    runs_us = 0.0
    for event in msgspec.json.decode(profile, type=list[_Event]):
        if event.cat == "Node" and event.args.op_name and event.name.endswith("_kernel_time"):
            count, total = totals.get(event.args.op_name, (0, 0.0))
            totals[event.args.op_name] = (count + 1, total + event.dur)
        elif event.cat == "Session" and event.name == "model_run":
            runs_us += event.dur
    whole = runs_us or sum(total for _, total in totals.values()) or 1.0
    found = [Operator(name, count, total, total / whole) for name, (count, total) in totals.items()]
    return sorted(found, key=lambda o: (-o.total_us, o.type))


@connected
def profile(
    target: Target,
    name: ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", show_default=False)] = "",
    seconds: Annotated[
        float,
        typer.Option("--seconds", "-s", min=0.1, max=limits.profile_seconds_max, help="How long to measure."),
    ] = 10.0,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default=False, help="Keep all events, for a trace viewer."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure which operators of an ONNX model take the time, in the calls that come in meanwhile.

    The model is loaded a second time for it, in one of its instances; its
    calls are some percent slower while it is measured. FILE can be opened
    with a trace viewer (ui.perfetto.dev, or chrome://tracing).

    Example: appliance models profile iris --seconds 30 --output iris.json
    """
    from appliance.cli.client import Client
    from appliance.cli.progress import Progress

    kept = _opened(file)
    with kept or contextlib.nullcontext(), Client(target) as client, Progress() as progress:
        progress.show(f"measuring {name} for {seconds:g} s")
        with _clock(progress, seconds), client.failures():
            events, runs = _receive(client, name, version, seconds)
        if kept is not None:
            kept.write(events)
    try:
        found = operators(events) if events else []
    except ValueError:
        raise CommandFailed(ExitCode.FAILED, "the daemon's profile can't be read") from None
    document = {
        "model": name,
        "runs": runs,
        "output": str(file) if file else None,
        "operators": [o._asdict() for o in found],
    }
    output.emit(document, as_json, lambda: _print(name, runs, found, file))


def _receive(client: Client, name: str, version: str, seconds: float) -> tuple[bytes, int]:
    from appliance.pb.appliance.v1 import admin_pb2

    request = admin_pb2.ProfileModelRequest(name=name, version=version, seconds=seconds)
    pieces, runs = [], 0
    for response in client.admin.ProfileModel(request, timeout=client.timeout or seconds + _MORE_SECONDS):
        pieces.append(response.chunk)
        runs = response.runs or runs
    return b"".join(pieces), runs


def _opened(file: Path | None) -> Any:
    """Before anything is measured: a place that can't be written to should be known at once."""
    if file is None:
        return None
    try:
        return file.open("wb")
    except OSError as error:
        raise CommandFailed(ExitCode.USAGE, f"--output {file}: {error.strerror}") from None


@contextlib.contextmanager
def _clock(progress: Any, seconds: float) -> Iterator[None]:
    """Moves the bar: the daemon says nothing until it has measured."""
    over = threading.Event()

    def tick() -> None:
        passed = 0.0
        while not over.wait(_TICK_SECONDS):
            passed += _TICK_SECONDS
            progress.show("", int(min(passed, seconds) * 1000), int(seconds * 1000))

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _print(name: str, runs: int, found: list[Operator], file: Path | None) -> None:
    if not runs:
        output.say(f"No call came to {name} meanwhile: there was nothing to measure")
    else:
        output.say(f"{name}: {runs} run{'' if runs == 1 else 's'}, operators by type")
        rows = [_row(o) for o in found[:_ROWS_MAX]]
        rest = found[_ROWS_MAX:]
        if rest:
            total, share = sum(o.total_us for o in rest), sum(o.share for o in rest)
            rows.append(_row(Operator(f"{len(rest)} more types", sum(o.runs for o in rest), total, share)))
        output.table(_COLUMNS, rows)
    if file is not None:
        output.say(f"All events are in {file}")


def _row(o: Operator) -> list[str]:
    mean = o.total_us / o.runs if o.runs else 0.0
    return [
        output.clipped(o.type, 34),
        output.count(o.runs),
        f"{o.total_us / 1000:,.1f}",
        f"{mean:,.1f}",
        f"{o.share * 100:.1f} %",
    ]
