"""`appliance status`: what runs, how it does, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import language_facts, output, tensor_facts
from appliance.cli.exit_codes import ExitCode
from appliance.cli.options import Json, Target, connected

if TYPE_CHECKING:
    from appliance.pb.appliance.v1 import admin_pb2

_MODEL_COLUMNS: list[tuple[str, output.Justify]] = [
    ("MODEL", "left"),
    ("VERSION", "left"),
    ("STATE", "left"),
    ("PID", "right"),
    ("MEMORY", "right"),
    ("CALLS", "right"),
    ("ERRORS", "right"),
    ("UPTIME", "right"),
]
_PROCESS_COLUMNS: list[tuple[str, output.Justify]] = [
    ("PROCESS", "left"),
    ("PID", "right"),
    ("MEMORY", "right"),
    ("RESTARTS", "right"),
    ("UPTIME", "right"),
]
# How a state is shown: "!" is bad, "~" is a warning (see output.table).
_MARKS = {"failed": "!", "quarantined": "!", "restarting": "~", "loading": "~", "draining": "~"}
_WATCH_SECONDS = 2.0


@connected
def status(
    target: Target,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again every two seconds; Ctrl-C ends.")] = False,
    as_json: Json = False,
) -> None:
    """Show the daemon, its models and its processes. The exit status is 5 while the daemon is not ready.

    A star marks the version that calls get which name none, and a plus the one
    that it is compared with. ERRORS counts the calls that failed, were refused,
    or were lost with their engine.

    Example: appliance status --json
    """
    from appliance.cli.client import Client
    from appliance.cli.messages import document

    with Client(target) as client:
        if watch and not as_json:
            _watch(client)
        answer = client.status()
    output.emit(document(answer), as_json, lambda: _print(answer))
    if not answer.ready:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _print(answer: admin_pb2.StatusResponse) -> None:
    from rich.console import Console

    Console(highlight=False, emoji=False).print(_page(answer))


def _watch(client: Any) -> None:
    import time

    from rich.live import Live

    with Live(auto_refresh=False, screen=True) as live:
        while True:
            live.update(_page(client.status()), refresh=True)
            time.sleep(_WATCH_SECONDS)


def _page(answer: admin_pb2.StatusResponse) -> Any:
    from rich.console import Group
    from rich.text import Text

    state = "ready" if answer.ready else "NOT READY"
    head = f"appliance {answer.version}, {state}, up {output.duration(answer.uptime_ms)}"
    parts: list[Any] = [Text(head, style="bold" if answer.ready else "bold red")]
    if answer.missing:
        text = f"required by the configuration, but not ready: {', '.join(answer.missing)}"
        parts.append(Text(output.line(text), style="red"))
    parts += [Text(f"listens on {', '.join(answer.addresses)}"), Text(f"state in {answer.state_dir}"), Text("")]
    if answer.models:
        parts.append(output.make_table(_MODEL_COLUMNS, [model_row(model) for model in answer.models], gap=1))
    else:
        parts.append(Text("No models yet: appliance models add FOLDER"))
    reasons = [
        f"{m.name} {m.version} is {m.state}: {m.reason}"
        + (f"; try it again with: appliance models activate {m.name} {m.version}" if m.state == "quarantined" else "")
        for m in answer.models
        if m.reason
    ]
    parts += [Text(output.line(reason)) for reason in reasons]
    parts += [Text(output.line(_compared(m))) for m in answer.models if m.HasField("comparison")]
    talking = language_facts.rows(list(answer.models))
    if talking:
        parts += [Text(""), output.make_table(language_facts.COLUMNS, talking, gap=1)]
    # The processor is what everybody expects.
    elsewhere = [f"{m.name} {m.version} runs on {m.provider}" for m in answer.models if m.provider not in ("", "cpu")]
    parts += [Text(output.line(sentence)) for sentence in elsewhere]
    tensors = tensor_facts.rows(list(answer.models))
    if tensors:
        parts += [Text(""), output.make_table(tensor_facts.COLUMNS, tensors, gap=1)]
    rows = [process_row(process) for process in answer.processes]
    return Group(*parts, Text(""), output.make_table(_PROCESS_COLUMNS, rows))


def model_row(model: admin_pb2.ModelStatus) -> list[str]:
    """One line of the models' table."""
    c = model.counters
    requests = c.success_count + c.fail_count + c.cancel_count + c.refused_count + c.lost_count
    errors = c.fail_count + c.refused_count + c.lost_count
    return [
        model.name,
        _version(model),
        # A version that is ready may still have instances that are not.
        _MARKS.get(model.state, "~" if model.reason else "") + model.state,
        _pids(model),
        output.size(model.memory_bytes) if model.pid else "-",
        output.count(requests),
        ("~" if errors else "") + output.count(errors),
        output.duration(model.uptime_ms) if model.pid else "-",
    ]


def _version(model: admin_pb2.ModelStatus) -> str:
    """With a space, where a narrow table breaks it."""
    candidate = f" +{model.comparison.candidate}" if model.HasField("comparison") else ""
    return model.version + ("*" if model.active else "") + candidate


def _compared(model: admin_pb2.ModelStatus) -> str:
    beside = model.comparison
    what = f"{beside.mode}, {beside.percent:g} % of its calls"
    return f"{model.name} {model.version} is compared with {beside.candidate} ({what}): appliance models compare {model.name}"


def _pids(model: admin_pb2.ModelStatus) -> str:
    """The first process, and how many instances there are beside it; ``--json`` has them all."""
    more = len(model.pids) - 1
    return f"{model.pid} +{more}" if more > 0 else str(model.pid or "-")


def process_row(process: admin_pb2.ProcessStatus) -> list[str]:
    """One line of the processes' table."""
    return [
        process.role,
        str(process.pid),
        output.size(process.memory_bytes),
        ("~" if process.restarts else "") + str(process.restarts),
        output.duration(process.uptime_ms),
    ]
