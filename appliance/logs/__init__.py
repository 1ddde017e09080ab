"""Logging of every process of the daemon: to the journal with fields, as text to a terminal, else as JSON, a line each."""

import logging
import sys

from appliance.config import LogConfig
from appliance.logs import journal, journal_socket
from appliance.logs.bounded import Bounded
from appliance.logs.formats import JsonFormatter, TextFormatter

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Prepared:
    """A connection of our own to the journal, made now. Nothing where there is none.

    For processes that later may make none, and for those that must not wait for the journal.
    """

    def __init__(self) -> None:
        self.send = journal_socket.by_socket() if journal.listens() else None


def configure(config: LogConfig, role: str, prepared: Prepared | None = None, **always: str) -> None:
    """Sends this process's log where it belongs; ``role`` says which process speaks.

    ``always``: facts that are true of all its records, such as the model of an engine.
    """
    root = logging.getLogger()
    for handler in root.handlers:
        if isinstance(handler, Bounded):
            handler.close()
    root.handlers[:] = [Bounded(_handler(config, role, prepared, always))]
    root.setLevel(_LEVELS[config.level])


def _handler(config: LogConfig, role: str, prepared: Prepared | None, always: dict[str, str]) -> logging.Handler:
    if config.format == "auto" and journal.listens():
        send = prepared.send if prepared else journal_socket.by_libsystemd() or journal_socket.by_socket()
        if send is not None:
            return journal.JournalHandler(role, always, send)
    handler = logging.StreamHandler(sys.stderr)
    text = config.format == "text" or (config.format == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter(role) if text else JsonFormatter(role, always))
    return handler
