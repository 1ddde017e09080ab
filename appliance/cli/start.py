"""Starts the daemon from what `appliance serve` was given, without typer where that's possible.

The process becomes the supervisor, which runs for months: typer and what it brings would cost it 16 MB and 120 ms.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from appliance.config import Config

# serve.py's options, by their keys in the configuration.
_OPTIONS = {"--state-dir": "paths.state", "--runtime-dir": "paths.runtime", "--address": "server.address"}


def start(config: Path | None, overrides: dict[str, str]) -> int:
    """Runs the daemon until it is stopped; returns its exit status. Raises InvalidArgument for a bad configuration."""
    from appliance import credentials
    from appliance.config_file import load_config

    def read() -> "Config":
        return credentials.resolve(load_config(config, overrides))

    try:
        configuration = read()
    except ApplianceError as error:
        _into_journal(error)
        raise
    # Imported here: it brings the whole daemon.
    from appliance.daemon.main import run

    return run(configuration, read)


def _into_journal(error: ApplianceError) -> None:
    """What is wrong is said on standard error in any case; where that is the journal, as an event as well."""
    from appliance import events, logs
    from appliance.config import LogConfig
    from appliance.logs import journal

    if journal.listens():
        logs.configure(LogConfig(), "supervisor")
        facts = events.CONFIG_WRONG.of(error_reason=error.reason)
        logging.getLogger(__name__).error("%s", error.message, extra=facts)


def plain(arguments: Sequence[str]) -> tuple[Path | None, dict[str, str]] | None:
    """``serve`` with nothing but pairs of its options and their values, as start's arguments; None for anything else.

    What isn't plain (--help, a mistake, --address=...) is typer's to read and to explain.
    """
    if not arguments or arguments[0] != "serve" or len(arguments) % 2 == 0:
        return None
    given = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    if not given.keys() <= {"--config", *_OPTIONS} or any(value.startswith("-") for value in given.values()):
        return None
    path = given.pop("--config", None) or os.environ.get("APPLIANCE_CONFIG")
    return Path(path) if path else None, {_OPTIONS[option]: value for option, value in given.items()}
