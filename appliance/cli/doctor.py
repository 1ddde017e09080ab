"""`appliance doctor`: what is wrong with this machine or installation, and what to do."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from appliance.cli import output
from appliance.cli.exit_codes import ExitCode
from appliance.cli.options import ConfigFile, Json

if TYPE_CHECKING:
    from appliance.cli.checks import Check
    from appliance.core_plan import Load

_MARKS = {"ok": "", "warn": "~", "bad": "!"}


def doctor(config: ConfigFile = None, as_json: Json = False) -> None:
    """Check this machine and the installation. The exit status is 1 when something is bad.

    Example: appliance doctor --json
    """
    checks = examine(config)
    worst = (
        "bad" if any(c.level == "bad" for c in checks) else "warn" if any(c.level == "warn" for c in checks) else "ok"
    )
    document = {"verdict": worst, "checks": [check._asdict() for check in checks]}
    output.emit(document, as_json, lambda: _print(checks))
    if worst == "bad":
        raise typer.Exit(ExitCode.FAILED)


def examine(config: Path | None) -> "list[Check]":
    """All checks; with a bad configuration, those of the machine by the defaults."""
    import datetime

    from appliance.cli.checks import Check, check_machine
    from appliance.cli.checks_certificates import check_certificates
    from appliance.cli.checks_files import check_surroundings
    from appliance.cli.checks_gpu import check_gpus
    from appliance.cli.checks_plan import check_plan
    from appliance.cli.checks_providers import check_providers
    from appliance.cli.checks_realtime import check_realtime
    from appliance.cli.checks_service import check_service
    from appliance.config import Config
    from appliance.config_file import load
    from appliance.errors import ApplianceError

    try:
        loaded = load(config)
    except ApplianceError as error:
        wrong = Check(
            "configuration", "bad", error.message, "correct it; `appliance config check` tells when it's good"
        )
        return [wrong, *check_machine(Config()), *check_gpus()]
    return [
        *check_surroundings(loaded, _addresses),
        *check_certificates(loaded, datetime.datetime.now(datetime.timezone.utc)),
        *check_service(loaded),
        *check_machine(loaded.config),
        *check_plan(loaded.config, _loaded(loaded.config.unix_socket)),
        check_realtime(loaded.config, _supervisor(loaded.config.unix_socket)),
        *check_gpus(),
        *check_providers(loaded.config),
    ]


def _addresses(path: Path) -> list[str]:
    """On which addresses the daemon behind the socket listens."""
    from appliance.cli.client import Client
    from appliance.cli.options import Target

    with Client(Target(socket=path, timeout=5.0)) as client:
        return list(client.status().addresses)


def _supervisor(path: Path) -> int:
    """The process of the daemon behind the socket, 0 where there is none."""
    from appliance.cli.client import Client
    from appliance.cli.options import Target

    try:
        with Client(Target(socket=path, timeout=5.0)) as client:
            return next(process.pid for process in client.status().processes if process.role == "supervisor")
    except Exception:
        return 0


def _loaded(path: Path) -> "list[Load]":
    """The models of the daemon behind the socket; none where there is no daemon, which another check tells."""
    from appliance.cli.checks_plan import loads_of

    try:
        return loads_of(path) if path.is_socket() else []
    except Exception:
        return []


def _print(checks: "list[Check]") -> None:
    rows = []
    for check in checks:
        mark = _MARKS[check.level]
        rows.append([mark + check.level, check.name, check.found + (f"\n-> {check.advice}" if check.advice else "")])
    output.table([("", "left"), ("CHECK", "left"), ("FOUND", "left")], rows)
