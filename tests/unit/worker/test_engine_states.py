import itertools

import pytest

from appliance.types import ModelState
from appliance.worker.engine_states import EngineEvent, ImpossibleTransition, advance

S, E = ModelState, EngineEvent
LISTED = {
    (S.LOADING, E.READY): S.READY,
    (S.LOADING, E.REFUSED): S.FAILED,
    (S.LOADING, E.DIED): S.RESTARTING,
    (S.LOADING, E.BUDGET_SPENT): S.QUARANTINED,
    (S.LOADING, E.DRAIN): S.DRAINING,
    (S.READY, E.DIED): S.RESTARTING,
    (S.READY, E.BUDGET_SPENT): S.QUARANTINED,
    (S.READY, E.DRAIN): S.DRAINING,
    (S.RESTARTING, E.READY): S.READY,
    (S.RESTARTING, E.DIED): S.RESTARTING,
    (S.RESTARTING, E.BUDGET_SPENT): S.QUARANTINED,
    (S.RESTARTING, E.DRAIN): S.DRAINING,
    (S.DRAINING, E.READY): S.DRAINING,
    (S.DRAINING, E.REFUSED): S.DRAINING,
    (S.DRAINING, E.ENDED): S.STORED,
    (S.FAILED, E.DRAIN): S.STORED,
    (S.QUARANTINED, E.DRAIN): S.STORED,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ModelState, EngineEvent)))
def test_every_pair(state: ModelState, event: EngineEvent) -> None:
    if (state, event) in LISTED:
        assert advance(state, event) is LISTED[state, event]
    else:
        with pytest.raises(ImpossibleTransition, match=f"{event.value} in state {state.value}"):
            advance(state, event)
