"""Tells the log when a required model goes missing or is back, after the start has been reported."""

import logging

from appliance import events

_log = logging.getLogger(__name__)

Names = tuple[str, ...]


class ReadinessLog:
    """Says each change once."""

    def __init__(self) -> None:
        self._missing: Names | None = None

    def begin(self, missing: Names) -> None:
        """What the report of the start said."""
        self._missing = missing

    def note(self, missing: Names) -> None:
        """What holds now."""
        if self._missing is None or missing == self._missing:
            return
        self._missing = missing
        if missing:
            _log.error(
                "not ready: the required model(s) %s take no calls",
                ", ".join(missing),
                extra=events.SERVICE_NOT_READY.of(),
            )
        else:
            _log.info("ready: all required models take calls", extra=events.SERVICE_READY.of())
