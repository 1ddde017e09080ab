import itertools

import pytest

from appliance.types import ModelState
from appliance.worker.engine_states import EngineEvent, ImpossibleTransition, advance, state_of_all

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


@pytest.mark.parametrize(
    ("instances", "together"),
    [
        ([S.READY, S.READY], S.READY),
        ([S.LOADING, S.LOADING], S.LOADING),
        ([S.READY, S.LOADING], S.READY),
        ([S.RESTARTING, S.READY], S.READY),
        ([S.QUARANTINED, S.READY], S.READY),
        ([S.RESTARTING, S.LOADING], S.RESTARTING),
        ([S.RESTARTING, S.QUARANTINED], S.RESTARTING),
        ([S.RESTARTING, S.RESTARTING], S.RESTARTING),
        ([S.LOADING, S.QUARANTINED], S.LOADING),
        ([S.QUARANTINED, S.QUARANTINED], S.QUARANTINED),
        # An instance that was given up in a trial; the others were ended.
        ([S.STORED, S.QUARANTINED], S.QUARANTINED),
        ([S.STORED, S.FAILED], S.FAILED),
        ([S.READY, S.DRAINING], S.DRAINING),
        ([S.DRAINING, S.STORED], S.DRAINING),
        ([S.STORED, S.STORED], S.STORED),
    ],
)
def test_how_instances_stand_together(instances: list[ModelState], together: ModelState) -> None:
    assert state_of_all(instances) is together
    assert state_of_all(instances[::-1]) is together


@pytest.mark.parametrize("state", list(S))
def test_one_instance_stands_for_itself(state: ModelState) -> None:
    assert state_of_all([state]) is state


def test_they_are_ready_just_when_one_is() -> None:
    """Unless they are being drained, which they are all together."""
    for instances in itertools.product(set(S) - {S.DRAINING}, repeat=3):
        assert (state_of_all(instances) is S.READY) == (S.READY in instances)
