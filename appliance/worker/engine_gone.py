"""What a caller is told of an engine that is not there, and how often a call may be sent again. Pure."""

from appliance.control import Route
from appliance.errors import Unavailable

# An engine may die between the look at an idle connection and the write to it. A request that could not be written
# whole, or was not read whole, was never run, so it may be written again; three engines dying in a row is not a race any
# more.
SEND_TRIES = 3


def engine_down(route: Route) -> Unavailable:
    """Nobody took the call: no engine has seen it."""
    return Unavailable(f"the engine of model '{route.name}' is not running: try again soon", reason="ENGINE_DOWN")


def engine_died(route: Route) -> Unavailable:
    """The call was in hand, and may have had an effect."""
    return Unavailable(
        f"the engine of model '{route.name}' died while it worked on this request; "
        "it is being started again: try again soon",
        reason="ENGINE_DIED",
    )
