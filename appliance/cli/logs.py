"""`appliance logs`: the daemon's log out of systemd's journal. The journal does the work; this names the fields."""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import typer

from appliance.cli import output
from appliance.cli.exit_codes import CommandFailed, ExitCode
from appliance.cli.options import complete_model

UNIT = "inference-appliance.service"

# journalctl's words for our levels; each takes in all that is worse.
_PRIORITIES = {"debug": "debug", "info": "info", "warning": "warning", "error": "err"}


class Wanted(NamedTuple):
    """Which entries, and how they are shown. "" and 0: not asked for."""

    follow: bool = False
    lines: int = 0
    since: str = ""
    model: str = ""
    version: str = ""
    request: str = ""
    client: str = ""
    level: str = ""
    message_id: str = ""
    as_json: bool = False
    explain: bool = False


def arguments(wanted: Wanted) -> list[str]:
    """Journalctl's arguments. Every value is part of a word of its own, so none is taken for an option."""
    found = [f"--unit={UNIT}"]
    found += [f"--lines={wanted.lines}"] if wanted.lines else []
    found += ["--follow"] if wanted.follow else []
    found += [f"--since={wanted.since}"] if wanted.since else []
    found += [f"--priority={_PRIORITIES[wanted.level]}"] if wanted.level else []
    found += ["--output=json"] if wanted.as_json else []
    found += ["--catalog"] if wanted.explain and not wanted.as_json else []
    fields = {
        "MODEL": wanted.model,
        "VERSION": wanted.version,
        "REQUEST_ID": wanted.request,
        "CLIENT": wanted.client,
        "MESSAGE_ID": wanted.message_id,
    }
    return found + [f"{name}={value}" for name, value in fields.items() if value]


def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int | None, typer.Option("--lines", "-n", min=1, help="The last so many; default: all.")] = None,
    since: Annotated[
        str, typer.Option(help='From when on, as journalctl reads it: "10 min ago", "today", "2026-05-01 10:00".')
    ] = "",
    model: Annotated[str, typer.Option(autocompletion=complete_model, help="Only what is about this model.")] = "",
    version: Annotated[str, typer.Option(help="Only what is about this version.")] = "",
    request: Annotated[str, typer.Option(help="Only what is about the request with this id.")] = "",
    client: Annotated[str, typer.Option(help="Only calls of this client, as the log names it.")] = "",
    level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="Only what is at least as bad.")
    ] = None,
    event: Annotated[str, typer.Option(help="Only events of this kind; --events lists them.")] = "",
    explain: Annotated[bool, typer.Option("--explain", "-x", help="Say what each event means and what to do.")] = False,
    events: Annotated[bool, typer.Option("--events", help="List the kinds of events, and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, with all fields.")] = False,
) -> None:
    """Show the daemon's log, by systemd's journal.

    Example: appliance logs --follow --level warning --explain
    """
    if events:
        _list(as_json)
        return
    wanted = Wanted(
        follow, lines or 0, since, model, version, request, client, level or "", _message_id(event), as_json, explain
    )
    _become(arguments(wanted))


def _message_id(event: str) -> str:
    if not event:
        return ""
    from difflib import get_close_matches

    from appliance.events import BY_NAME

    if event in BY_NAME:
        return BY_NAME[event].message_id
    near = get_close_matches(event, BY_NAME, n=1)
    hint = f"did you mean {near[0]}?" if near else "`appliance logs --events` lists them"
    raise CommandFailed(ExitCode.USAGE, f"there is no kind of event {event!r}: {hint}")


def _list(as_json: bool) -> None:
    from appliance.events import ALL

    kinds = sorted(ALL)
    document = [
        {"name": k.name, "message_id": k.message_id, "subject": k.subject, "means": k.means, "do": k.do} for k in kinds
    ]
    rows = [(kind.name, f"{kind.subject}\n{kind.message_id}") for kind in kinds]
    columns: list[tuple[str, output.Justify]] = [("EVENT", "left"), ("WHAT HAPPENED, AND ITS MESSAGE_ID", "left")]
    output.emit({"events": document}, as_json, lambda: output.table(columns, rows))


def _become(words: Sequence[str]) -> None:
    """Becomes journalctl, with its pager, its exit status and its Ctrl-C."""
    program = shutil.which("journalctl")
    if program is None:
        raise CommandFailed(
            ExitCode.UNAVAILABLE,
            "there is no journalctl on this machine: without systemd the daemon writes its log to standard error, where"
            " whatever starts it keeps it",
        )
    sys.stdout.flush()
    try:
        os.execv(program, [program, *words])  # noqa: S606 - no shell, by intent
    except OSError as error:
        raise CommandFailed(ExitCode.FAILED, f"{program} cannot be started: {error.strerror}") from None
