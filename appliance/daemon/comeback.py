"""When the engines of a version keep dying: which version comes back for it. Pure, and says in the log what it finds."""

import logging
from collections.abc import Callable

from appliance import events
from appliance.types import ModelState
from appliance.versions import Desired

_log = logging.getLogger(__name__)


def version_instead(version: str, desired: Desired, state_of: Callable[[str], ModelState | None]) -> str:
    """The version that takes over from the quarantined ``version``; empty when there is none.

    ``state_of`` tells how another version of the model stands, None when no engine of it was started.
    """
    name, previous = desired.name, desired.previous
    if desired.active != version or not previous:
        facts = events.MODEL_DOWN.of(name, version)
        _log.error("%s:%s is quarantined, and no previous version is known", name, version, extra=facts)
        return ""
    if state_of(previous) is ModelState.QUARANTINED:
        facts = events.MODEL_DOWN.of(name, version)
        _log.error("%s:%s is quarantined, as %s before it is", name, version, previous, extra=facts)
        return ""
    facts = events.MODEL_COMES_BACK.of(name, version)
    _log.error("%s:%s is quarantined: %s comes back", name, version, previous, extra=facts)
    return previous
