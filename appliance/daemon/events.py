"""What becomes of versions, as events of the log."""

import logging

from appliance import events
from appliance.events.kind import Kind

_log = logging.getLogger(__name__)

_LEVELS = {
    events.MODEL_ROLLED_BACK: logging.ERROR,
    # A rollback was due and could not be done: somebody has to look.
    events.MODEL_ROLLBACK_FAILED: logging.ERROR,
    events.MODEL_QUARANTINED: logging.WARNING,
}


def tell(kind: Kind, name: str, version: str, text: str) -> None:
    """Logs one. ``text`` goes on where "name:version" ended; the names are fields as well."""
    facts = kind.of(model=name, version=version)
    _log.log(_LEVELS.get(kind, logging.INFO), "%s:%s %s [%s]", name, version, text, kind.name, extra=facts)
