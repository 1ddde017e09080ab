"""The life of an engine as a table: (state, event) to state. A pair that is not listed is a bug, and says so.

And how a version stands whose instances stand so: the first of their states in an order of precedence.
"""

from collections.abc import Collection
from enum import Enum

from appliance.types import ModelState


class EngineEvent(str, Enum):
    """What can happen to the engine of one model version."""

    READY = "ready"
    REFUSED = "refused"
    DIED = "died"
    BUDGET_SPENT = "budget spent"
    DRAIN = "drain"
    ENDED = "ended"


_S = ModelState
_E = EngineEvent
_TABLE: dict[tuple[ModelState, EngineEvent], ModelState] = {
    (_S.LOADING, _E.READY): _S.READY,
    # Only a trial ends so: a version that has served before is started again.
    (_S.LOADING, _E.REFUSED): _S.FAILED,
    (_S.LOADING, _E.DIED): _S.RESTARTING,
    (_S.LOADING, _E.BUDGET_SPENT): _S.QUARANTINED,
    (_S.LOADING, _E.DRAIN): _S.DRAINING,
    (_S.READY, _E.DIED): _S.RESTARTING,
    (_S.READY, _E.BUDGET_SPENT): _S.QUARANTINED,
    (_S.READY, _E.DRAIN): _S.DRAINING,
    (_S.RESTARTING, _E.READY): _S.READY,
    (_S.RESTARTING, _E.DIED): _S.RESTARTING,
    (_S.RESTARTING, _E.BUDGET_SPENT): _S.QUARANTINED,
    (_S.RESTARTING, _E.DRAIN): _S.DRAINING,
    (_S.DRAINING, _E.READY): _S.DRAINING,
    (_S.DRAINING, _E.REFUSED): _S.DRAINING,
    (_S.DRAINING, _E.ENDED): _S.STORED,
    (_S.FAILED, _E.DRAIN): _S.STORED,
    (_S.QUARANTINED, _E.DRAIN): _S.STORED,
}


class ImpossibleTransition(Exception):
    """The supervisor's own logic is wrong."""


def advance(state: ModelState, event: EngineEvent) -> ModelState:
    """The state after ``event``; raises ImpossibleTransition for a pair that the table doesn't list."""
    try:
        return _TABLE[state, event]
    except KeyError:
        raise ImpossibleTransition(f"{event.value} in state {state.value}") from None


# A version is drained as a whole, so a draining instance speaks for all. Else it is what its best instance is: it takes
# calls while any does, and is given up only when all have been. An instance that was ended because another one failed
# its trial (STORED) says nothing.
_PRECEDENCE = (_S.DRAINING, _S.READY, _S.RESTARTING, _S.LOADING, _S.QUARANTINED, _S.FAILED, _S.STORED)


def state_of_all(instances: Collection[ModelState]) -> ModelState:
    """The state of a version with these instances, at least one."""
    return next(state for state in _PRECEDENCE if state in instances)
