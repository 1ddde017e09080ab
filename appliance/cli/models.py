"""`appliance models ...`: what is stored, what is active, and changing it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from appliance import limits
from appliance.cli import comparison, output
from appliance.cli.options import Json, ModelName, Target, connected
from appliance.cli.profile import profile
from appliance.cli.rollback import change, done, rollback

app = typer.Typer(help="List, add, activate, compare, roll back, profile and remove models.")

_OptionalVersion = Annotated[str, typer.Argument(metavar="VERSION", show_default=False)]
_KeepPrevious = Annotated[
    bool, typer.Option("--keep-previous", help="Leave the version active until now loaded, for requests that name it.")
]
_Probation = Annotated[
    float,
    typer.Option(
        "--probation",
        metavar="SECONDS",
        min=0,
        max=limits.probation_seconds_max,
        show_default=False,
        help="Compare it so long with the version before it; go back to that, and quarantine it, if it is worse.",
    ),
]


@app.command("list")
@connected
def list_models(target: Target, as_json: Json = False) -> None:
    """List all stored models and versions; a star marks the active one.

    Example: appliance models list
    """
    from appliance.cli.client import Client
    from appliance.cli.messages import document

    with Client(target) as client:
        models = client.status().models

    def render() -> None:
        if not models:
            output.say("No models yet: appliance models add FOLDER")
            return
        rows = [
            [
                m.name,
                m.version + ("*" if m.active else ""),
                m.state,
                m.engine,
                output.size(m.size_bytes),
                m.digest.removeprefix("sha256:")[:12],
            ]
            for m in models
        ]
        headings = ("MODEL", "VERSION", "STATE", "ENGINE", "SIZE", "DIGEST")
        output.table([(h, "right" if h == "SIZE" else "left") for h in headings], rows)

    output.emit({"models": [document(model) for model in models]}, as_json, render)


@app.command()
@connected
def show(target: Target, name: ModelName, version: _OptionalVersion = "", as_json: Json = False) -> None:
    """Show one version with its model.toml: the active one, else the newest, when no version is given.

    Example: appliance models show iris 1.2.0
    """
    import json

    from appliance.cli.client import Client
    from appliance.cli.messages import document
    from appliance.cli.model_page import print_model
    from appliance.pb.appliance.v1 import admin_pb2

    with Client(target) as client, client.failures():
        request = admin_pb2.ShowModelRequest(name=name, version=version)
        answer = client.admin.ShowModel(request, timeout=client.timeout or 30)
    spec: dict[str, Any] = json.loads(answer.spec_json or "{}")
    whole = {"status": document(answer.status), "spec": spec, "added_ms": answer.added_ms}
    output.emit(whole, as_json, lambda: print_model(answer, spec))


@app.command()
@connected
def add(
    target: Target,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="Holds model.toml.")],
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="Only store and test it; the active version stays.")
    ] = False,
    keep_previous: _KeepPrevious = False,
    probation: _Probation = 0.0,
    as_json: Json = False,
) -> None:
    """Send a model folder to the daemon, which stores it, runs its golden tests, and activates it when they pass.

    Example: appliance models add ./iris-1.2.0
    """
    from appliance.cli import upload
    from appliance.cli.client import Client
    from appliance.cli.progress import Progress, follow
    from appliance.pb.appliance.v1.admin_pb2 import AddModelRequest

    files = upload.plan(folder)
    begin = AddModelRequest.Begin(
        total_bytes=files.total, no_activate=no_activate, keep_previous=keep_previous, probation_seconds=probation
    )
    with Client(target) as client, Progress() as progress:
        sent = 0

        def count(size: int) -> None:
            nonlocal sent
            sent += size
            progress.show("", sent, files.total)

        progress.show(f"sending {len(files.sizes)} files, {output.size(files.total)}")
        parts = upload.Parts(files, begin, count)
        try:
            with client.failures():
                last = follow(client.admin.AddModel(iter(parts), timeout=client.timeout), progress)
        except Exception as error:
            raise parts.failure or error from None
        if parts.failure:
            raise parts.failure
    tests = (
        f"{files.golden} golden test{'' if files.golden == 1 else 's'} passed" if files.golden else "no golden tests"
    )
    done(last, as_json, f"added, {tests}", golden_passed=files.golden)


@app.command()
@connected
def activate(
    target: Target,
    name: ModelName,
    version: _OptionalVersion = "",
    beside: Annotated[
        bool, typer.Option("--beside", help="Only load it, for requests that name it; the active version stays.")
    ] = False,
    keep_previous: _KeepPrevious = False,
    probation: _Probation = 0.0,
    force: Annotated[
        bool, typer.Option("--force", help="Even if it is quarantined; it is not quarantined any more then.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Load a version and make it the one that requests get which name none; the newest when no version is given.

    Example: appliance models activate iris 1.1.0 --probation 600
    """
    from appliance.pb.appliance.v1 import admin_pb2

    request = admin_pb2.ActivateModelRequest(
        name=name,
        version=version,
        beside=beside,
        keep_previous=keep_previous,
        probation_seconds=probation,
        force=force,
    )
    change(
        target,
        lambda c: c.admin.ActivateModel(request, timeout=c.timeout),
        as_json,
        "loaded" if beside else "activated",
    )


@app.command()
@connected
def deactivate(target: Target, name: ModelName, version: _OptionalVersion = "", as_json: Json = False) -> None:
    """Unload a version, or every version of the model; it stays stored.

    Example: appliance models deactivate iris
    """
    from appliance.pb.appliance.v1 import admin_pb2

    request = admin_pb2.DeactivateModelRequest(name=name, version=version)
    change(target, lambda c: c.admin.DeactivateModel(request, timeout=c.timeout), as_json, f"{name} is unloaded")


@app.command()
@connected
def remove(
    target: Target,
    name: ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a version that is not loaded from the store.

    Example: appliance models remove iris 1.0.0 --yes
    """
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.pb.appliance.v1 import admin_pb2

    if not yes:
        import sys

        if not sys.stdin.isatty():
            raise CommandFailed(ExitCode.USAGE, "removing can't be undone, and there is nobody to ask: give --yes")
        if not typer.confirm(f"Remove {name} {version} from the store for good?", err=True):
            raise CommandFailed(ExitCode.FAILED, "nothing was removed")
    request = admin_pb2.RemoveModelRequest(name=name, version=version)
    change(target, lambda c: c.admin.RemoveModel(request, timeout=c.timeout), as_json, f"{name} {version} is removed")


app.command()(rollback)
app.command()(comparison.canary)
app.command()(comparison.shadow)
app.command()(comparison.compare)
app.command()(comparison.promote)
app.command()(comparison.abandon)
app.command()(profile)
