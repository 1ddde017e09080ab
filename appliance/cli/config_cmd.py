"""`appliance config check`, `show` and `systemd`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from appliance.cli import output
from appliance.cli.options import ConfigFile, Json

app = typer.Typer(help="Check and show the configuration.")


@app.command()
def check(config: ConfigFile = None, as_json: Json = False) -> None:
    """Read the configuration as the daemon would, and say what is wrong with it (exit status 6).

    Example: appliance config check --config ./appliance.toml
    """
    from appliance.cli.checks_files import check_tls
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.config_file import load
    from appliance.errors import ApplianceError

    try:
        loaded = load(config)
    except ApplianceError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, error.message) from None
    bad = [found for found in check_tls(loaded.config) if found.level == "bad"]
    if bad:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{bad[0].found}; {bad[0].advice}")
    files = [str(file) for file in loaded.files]

    def render() -> None:
        output.say(f"ok: {', '.join(files) or 'no file, the defaults hold'}; {len(loaded.origins)} keys set")

    output.emit({"ok": True, "files": files, "set": loaded.origins}, as_json, render)


@app.command()
def show(config: ConfigFile = None, as_json: Json = False) -> None:
    """Show every key, its value in force, and the file that set it.

    Example: appliance config show --json
    """
    import json

    import msgspec

    from appliance.config_file import load
    from appliance.config_rules import all_keys

    loaded = load(config)
    tree = msgspec.to_builtins(loaded.config)
    keys = {key: _value(tree, key) for key in all_keys()}
    effective = {
        "state folder": str(loaded.config.state_dir),
        "runtime folder": str(loaded.config.runtime_dir),
        "unix socket": str(loaded.config.unix_socket),
        "front-ends": loaded.config.front_end_count,
    }

    def render() -> None:
        rows = [(key, json.dumps(value), loaded.origins.get(key, "default")) for key, value in keys.items()]
        output.table([("key", "left"), ("value", "left"), ("from", "left")], rows)
        output.say("")
        output.table([("in effect", "left"), ("", "left")], [(name, str(value)) for name, value in effective.items()])

    document = {
        "files": [str(file) for file in loaded.files],
        "config": tree,
        "from": loaded.origins,
        "effective": {name.replace(" ", "_").replace("-", "_"): value for name, value in effective.items()},
    }
    output.emit(document, as_json, render)


@app.command()
def systemd(
    config: ConfigFile = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="A network that may be reached besides: clients, DNS (10.1.0.0/16, or any)."),
    ] = None,
    write_to: Annotated[
        Path | None, typer.Option("--output", help="Write the drop-in to this file instead of printing it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the drop-in of the systemd unit that this configuration needs: networks, GPU, keys.

    Example: appliance config systemd --allow 10.1.0.0/16 --output
    /etc/systemd/system/inference-appliance.service.d/50-generated.conf
    """
    from appliance.cli import service_drop_in as drop_ins
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.config_file import load

    loaded = load(config)
    gpu = "engines.providers" in loaded.origins or Path("/dev/nvidiactl").exists()
    try:
        drop_in = drop_ins.plan(loaded.config, allow or [], gpu, drop_ins.loaded_by(_before(write_to)))
    except drop_ins.ClientsUnknownError as error:
        raise CommandFailed(
            ExitCode.INVALID_INPUT,
            f"other machines may connect to server.address {error}, and the service only answers networks that it is "
            "told: name your clients' with --allow 10.1.0.0/16, or --allow any",
        ) from None
    except ValueError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"--allow: {error}") from None
    text = drop_ins.render(drop_in, [str(file) for file in loaded.files])
    if write_to is not None:
        _write(write_to, text)

    def render() -> None:
        if write_to is None:
            output.say(text.rstrip("\n"))
        else:
            output.say(f"wrote {write_to}; now: systemctl daemon-reload && systemctl restart inference-appliance")
            for each in drop_in.notes:
                output.note(each)

    document = {"output": str(write_to or ""), "text": text, **drop_ins.document(drop_in)}
    output.emit(document, as_json, render)


def _before(path: Path | None) -> str:
    """What the file says that is to be replaced."""
    try:
        return path.read_text() if path is not None else ""
    except (OSError, UnicodeDecodeError):  # none yet, or it will be said when it can't be written either
        return ""


def _write(path: Path, text: str) -> None:
    """Durably, with the folder that drop-ins lie in."""
    from appliance.cli.exit_codes import CommandFailed, ExitCode
    from appliance.osutil import durable

    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        durable.write(path, text.encode(), mode=0o644)
    except OSError as error:
        raise CommandFailed(ExitCode.FAILED, f"cannot write {path}: {error.strerror}") from None


def _value(tree: Any, key: str) -> Any:
    for step in key.split("."):
        tree = tree[step]
    return tree
