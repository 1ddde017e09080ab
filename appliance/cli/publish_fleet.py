"""`appliance publish fleet`: what sticks that came back say of the machines that they were at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output, publish_session
from appliance.cli.exit_codes import ExitCode
from appliance.cli.options import Json
from appliance.cli.publish_session import DEFAULT_FOLDER, Folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.publish.bundle.fleet import Row

_COLUMNS: list[tuple[str, output.Justify]] = [
    ("MACHINE", "left"),
    ("STATUS", "left"),
    ("FROM", "left"),
    ("ROOT", "right"),
    ("RUNS", "left"),
]
_DEVICE_CHARS = 12


def fleet(
    returned: Annotated[
        list[Path], typer.Argument(metavar="RETURN...", show_default=False, help="Sticks, their return/, or files.")
    ],
    known: Annotated[
        Path | None, typer.Option(help="Which machines are known; default: fleet.json in the publisher's folder.")
    ] = None,
    enrol: Annotated[
        bool, typer.Option("--enrol", help="From now on believe the keys of machines that are new.")
    ] = False,
    folder: Folder = DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Show what machines without a network run, as the sticks that were imported there say.

    Exit status 7: a status was forged, broken, signed by another key, or older than one seen before.

    Example: appliance publish fleet /media/stick-1 /media/stick-2 --enrol
    """
    with publish_session.libraries():
        from appliance.publish.bundle import fleet as machines
        from appliance.publish.bundle import known as file

    if known is None:
        with publish_session.opened(folder) as session:
            rows = _judged(session.publisher.workspace.folder / file.FILE_NAME, returned, enrol)
    else:
        rows = _judged(known, returned, enrol)
    output.emit({"machines": [_document(row) for row in rows]}, as_json, lambda: _print(rows))
    if any(row.verdict in machines.BAD for row in rows):
        raise typer.Exit(ExitCode.REFUSED)


def _judged(path: Path, returned: Sequence[Path], enrol: bool) -> list[Row]:
    from appliance.publish.bundle import fleet as machines
    from appliance.publish.bundle import known

    before = known.read(path)
    found = machines.read(returned)
    rows = machines.judge(found, before, enrol=enrol)
    after = machines.learned(rows, found, before)
    if after != before:
        known.write(path, after)
    return rows


def _document(row: Row) -> Any:
    import msgspec

    return msgspec.to_builtins(row)


def _print(rows: Sequence[Row]) -> None:
    from appliance.publish.bundle.fleet import BAD, Verdict

    if not rows:
        output.say("There is no status: it is in return/ of a stick that was imported somewhere")
        return
    cells = []
    for row in rows:
        mark = "!" if row.verdict in BAD else "~" if row.verdict is Verdict.NEW else ""
        when = output.moment(row.report.at_s * 1000)[:16] if row.report else "-"
        root = str(row.report.root_version) if row.report else "-"
        cells.append([row.device[:_DEVICE_CHARS] or "-", mark + row.verdict.value, when, root, _runs(row)])
    output.table(_COLUMNS, cells)
    for row in rows:
        name = row.device[:_DEVICE_CHARS] or output.line(row.path)
        if row.problem:
            output.say(f"! {name}: {output.line(row.problem)}{f' ({output.line(row.path)})' if row.device else ''}")
        for text in _alarms(row):
            output.say(f"  {name}: {output.clipped(text, 200)}")
    if any(row.verdict is Verdict.NEW for row in rows):
        output.say("New machines are believed, and remembered, with --enrol.")


def _runs(row: Row) -> str:
    report = row.report
    if report is None:
        return "-"
    found = ", ".join(_line(line) for line in report.lines if line.active or line.state) or "nothing"
    more = f", and {report.lines_left_out} more" if report.lines_left_out else ""
    return f"{found}{more} (appliance {report.appliance})"


def _line(line: Any) -> str:
    wanted = f" -> {line.wanted} {line.state}" if line.wanted and line.wanted != line.active else ""
    return f"{line.line} {line.active or 'none'}{wanted}"


def _alarms(row: Row) -> list[str]:
    report = row.report
    if report is None:
        return []
    refused = [f"{one.line} {one.wanted} refused: {one.reason}" for one in report.lines if one.state == "refused"]
    quarantined = [f"{one.line}: quarantined {', '.join(one.quarantined)}" for one in report.lines if one.quarantined]
    return [*([report.error] if report.error else []), *report.alarms, *refused, *quarantined]
