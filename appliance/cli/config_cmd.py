"""`appliance config check` and `appliance config show`."""

from typing import Any

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


def _value(tree: Any, key: str) -> Any:
    for step in key.split("."):
        tree = tree[step]
    return tree
