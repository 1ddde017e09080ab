"""Wires the commands together. Each imports what it needs when it runs: none pays for another's gRPC, rich or numpy."""

from typing import Annotated

import typer

from appliance.cli import (
    bundle,
    chat,
    config_cmd,
    doctor,
    embed,
    exit_codes,
    infer,
    logs,
    models,
    publish,
    registry,
    rerank,
    serve,
    setup_cmd,
    state_cmd,
    status,
    store,
    sync,
    version,
)
from appliance.cli.options import Json

app = typer.Typer(
    name="appliance",
    help="Serves language models and classic machine learning over gRPC, next to the data.",
    epilog=exit_codes.epilog(),
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if show_version:
        version.version()
        raise typer.Exit
    help_when_alone(context)


def help_when_alone(context: typer.Context) -> None:
    """Prints the help of a group that was called without a command."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
        raise typer.Exit(exit_codes.ExitCode.USAGE)


app.command(name="serve")(serve.serve)
app.add_typer(setup_cmd.app, name="setup")
app.command(name="status")(status.status)
app.command(name="logs")(logs.logs)
for name, group in (
    ("models", models.app),
    ("store", store.app),
    ("sync", sync.app),
    ("registry", registry.app),
    ("bundle", bundle.app),
    ("config", config_cmd.app),
    ("state", state_cmd.app),
    ("publish", publish.app),
):
    group.callback(invoke_without_command=True)(help_when_alone)
    app.add_typer(group, name=name)
app.command(name="infer")(infer.infer)
app.command(name="chat")(chat.chat)
app.command(name="embed")(embed.embed)
app.command(name="rerank")(rerank.rerank)
app.command(name="doctor")(doctor.doctor)


@app.command(name="version", help=version.version.__doc__)
def _version(as_json: Json = False) -> None:
    version.version(as_json)
