"""`appliance serve`: the daemon, in the foreground."""

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.options import ConfigFile
from appliance.cli.start import start


def serve(
    config: ConfigFile = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="Folder of the models and of what survives a restart (paths.state).")
    ] = None,
    runtime_dir: Annotated[Path | None, typer.Option(help="Folder of sockets and the lock (paths.runtime).")] = None,
    address: Annotated[str | None, typer.Option(help="host:port to listen on (server.address).")] = None,
) -> None:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C; what is given here wins over the file.

    Example: appliance serve --state-dir ./state --address 127.0.0.1:8001
    """
    given = {"paths.state": state_dir, "paths.runtime": runtime_dir, "server.address": address}
    raise typer.Exit(start(config, {key: str(value) for key, value in given.items() if value is not None}))
