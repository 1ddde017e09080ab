"""`appliance bundle ...`: releases on a stick: onto it at headquarters, from it on machines without a network."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli import bundle_export, output
from appliance.cli.options import Json, Target, connected
from appliance.cli.sync import MARKS

if TYPE_CHECKING:
    from appliance.cli.client import Client
    from appliance.pb.appliance.v1.admin_pb2 import SyncLine, SyncResponse

app = typer.Typer(help="Carry releases on a stick to machines without a network.")
app.command()(bundle_export.export)

_LOOK_S = 0.25
# The daemon's sync process is up again within seconds when it dies; the import that it was at is then forgotten.
_LOST_S = 10.0
_COLUMNS: list[tuple[str, output.Justify]] = [
    ("MODEL", "left"),
    ("VERSION", "left"),
    ("STATE", "left"),
    ("WHY", "left"),
]


@app.command("import")
@connected
def import_(
    target: Target,
    path: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="On the stick: holds oci-layout.")],
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return when it has begun; see `sync status`.")] = False,
    as_json: Json = False,
) -> None:
    """Install what a stick has for this machine, by the same signatures, rules and tests as from a registry.

    The daemon reads the stick; leave it in until this returns. What was cut off goes on with the next import. Where the
    stick can be written to, it carries this machine's signed status back in return/.

    Exit status 0: read, and nothing of it failed; 5: it could not be read, or broke off; 7: a version was refused, or
    could not be installed.

    Example: appliance bundle import /media/stick
    """
    from appliance.cli.client import Client
    from appliance.cli.exit_codes import ExitCode
    from appliance.cli.messages import document
    from appliance.pb.appliance.v1.admin_pb2 import VisitRequest

    # The daemon has a working folder of its own.
    folder = os.path.abspath(path)
    with Client(target) as client, client.failures():
        status = client.admin.Visit(VisitRequest(path=folder), timeout=client.timeout).status
        if not no_wait:
            status = _followed(client, status, folder)
    output.emit(document(status), as_json, lambda: _begun(folder) if no_wait else _print(status))
    if no_wait:
        return
    if status.visit.error:
        raise typer.Exit(ExitCode.UNAVAILABLE)
    if any(_failed(line) for line in status.visit.lines):
        raise typer.Exit(ExitCode.REFUSED)


def _failed(line: SyncLine) -> bool:
    """Whether a person has to look at it: refused, or tried and failed; a version may also wait for its wave, or a window."""
    return line.state in ("refused", "failed")


def _followed(client: Client, begun: SyncResponse, folder: str) -> SyncResponse:
    """The status in which the import has ended."""
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.cli.progress import Progress
    from appliance.pb.appliance.v1.admin_pb2 import SyncRequest

    idle_since = time.monotonic()
    with Progress() as progress:
        while True:
            status = client.admin.Sync(SyncRequest(), timeout=client.timeout)
            if status.visit.ended_ms != begun.visit.ended_ms:
                return status
            if status.visiting or status.doing:
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > _LOST_S:
                raise CommandFailed(
                    ExitCode.UNAVAILABLE, f"the import of {folder} broke off (see the daemon's log): import it again"
                )
            progress.show(status.doing or "waiting for the daemon", status.done_bytes, status.total_bytes)
            time.sleep(_LOOK_S)


def _begun(folder: str) -> None:
    output.say(f"importing {output.line(folder)}: see `appliance sync status`")


def _print(status: SyncResponse) -> None:
    visit = status.visit
    path = output.line(visit.path)
    output.say(f"{path} could not be imported: {output.line(visit.error)}" if visit.error else f"imported {path}")
    for alarm in status.alarms:
        output.say(f"ALARM: {output.line(alarm)}")
    if visit.lines:
        rows = [
            [line.line, line.version or "-", MARKS.get(line.state, "") + line.state, output.line(line.reason)]
            for line in visit.lines
        ]
        output.say("")
        output.table(_COLUMNS, rows)
        output.say("")
    if visit.returned:
        output.say(f"This machine's status goes back with the stick: {output.line(visit.returned)}")
    else:
        output.say(f"No status goes back with the stick: {output.line(visit.not_returned)}")
