"""`appliance state ...`: the format of the state folder, and the way back after an upgrade that was undone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import ConfigFile, Json

if TYPE_CHECKING:
    from appliance.state.stamp import Stamp

app = typer.Typer(help="See which format the state folder has, and go back to what was there before an upgrade.")

StateDir = Annotated[
    Path | None, typer.Option("--state-dir", help="The state folder; default: as the configuration says.")
]


@app.command()
def show(config: ConfigFile = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Print the folder's format, which version wrote to it last, and the backups that upgrades have made.

    Reads files only; the daemon may run or not. Example: appliance state show
    """
    from appliance.state import backup, stamp

    state = _folder(config, state_dir)
    document = _document(state, stamp.read(state), backup.names(state))

    def text() -> None:
        if document["format"] is None:
            output.say(f"{state}: new, nothing has been stored yet")
        else:
            by = f", last written by {document['written_by']}" if document["written_by"] else ""
            output.say(f"{state}: format {document['format']}{by}; this version knows up to {stamp.FORMAT}")
        for name in document["backups"]:
            output.say(f"backup: {name}")

    output.emit(document, as_json, text)


@app.command()
def restore(
    name: Annotated[str, typer.Argument(metavar="BACKUP", help="Its name, as `appliance state show` prints it.")],
    config: ConfigFile = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Put back which models were stored and which ran before an upgrade, for the version that made the backup.

    Stop the service first; what is there now becomes a backup too. Models' files, trust and its clock stay as they are.

    Example: appliance state restore format-2-of-0.1.0
    """
    from appliance.osutil.lock import InstanceLock
    from appliance.state import backup

    state = _folder(config, state_dir)
    with InstanceLock(state):
        restored = backup.restore(state, name)
    by = f" (written by {restored.written_by})" if restored.written_by else ""
    output.emit(
        _document(state, restored, backup.names(state)),
        as_json,
        lambda: output.say(f"{state} has format {restored.format} again{by}; next: `appliance store check`"),
    )


def _folder(config: Path | None, state_dir: Path | None) -> Path:
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.config_file import load_config

    state = state_dir or load_config(config).state_dir
    if not state.is_dir():
        raise CommandFailed(ExitCode.NOT_FOUND, f"there is no state folder {state}; name another with --state-dir")
    return state


def _document(state: Path, found: Stamp | None, backups: tuple[str, ...]) -> dict[str, Any]:
    return {
        "state_dir": str(state),
        "format": found.format if found else None,
        "written_by": found.written_by if found else "",
        "backups": list(backups),
    }
