"""What becomes of versions, as events: one log line each, with a name that scripts and log collectors match on."""

import logging
from enum import Enum

_log = logging.getLogger(__name__)


class Event(str, Enum):
    """All of them. Names are stable."""

    ACTIVATED = "model.activated"
    PROBATION_BEGAN = "model.probation_began"
    COMMITTED = "model.committed"
    ROLLED_BACK = "model.rolled_back"
    # A rollback was due and could not be done: somebody has to look.
    ROLLBACK_FAILED = "model.rollback_failed"
    QUARANTINED = "model.quarantined"
    QUARANTINE_LIFTED = "model.quarantine_lifted"
    COMPARISON_BEGAN = "model.comparison_began"
    COMPARISON_ENDED = "model.comparison_ended"


_LEVELS = {
    Event.ROLLED_BACK: logging.ERROR,
    Event.ROLLBACK_FAILED: logging.ERROR,
    Event.QUARANTINED: logging.WARNING,
}


def tell(event: Event, name: str, version: str, text: str) -> None:
    """Logs one. ``text`` goes on where "name:version" ended; in JSON the names are fields as well."""
    facts = {"event": event.value, "model": name, "version": version}
    _log.log(
        _LEVELS.get(event, logging.INFO), "%s:%s %s [%s]", name, version, text, event.value, extra={"facts": facts}
    )
