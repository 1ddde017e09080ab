"""The table of an update's states: complete, without dead ends, and with something to do after a restart in each."""

import pytest

from appliance.registry.sync import states
from appliance.registry.sync.states import BAD, ENDS, SWITCHING, TABLE, Action, Event, State, WrongTransition


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_what_is_not_listed_is_a_typed_error(state: State, event: Event) -> None:
    if (state, event) in TABLE:
        assert states.after(state, event) is TABLE[state, event]
        return
    with pytest.raises(WrongTransition, match=state.value) as caught:
        states.after(state, event)
    assert caught.value.reason == "SYNC_TRANSITION"


def test_every_event_and_every_state_is_used() -> None:
    assert {event for _, event in TABLE} == set(Event)
    assert {state for state, _ in TABLE} | ENDS == set(State)
    assert set(TABLE.values()) | {State.DOWNLOADING} == set(State)


@pytest.mark.parametrize("state", State)
def test_from_everywhere_an_end_is_reached(state: State) -> None:
    seen, new = set(), {state}
    while new:
        seen |= new
        new = {after for (before, _), after in TABLE.items() if before in seen} - seen
    assert seen & ENDS


def test_a_version_runs_only_after_it_was_verified_and_staged() -> None:
    ways = {after: {b for (b, _), a in TABLE.items() if a is after} for after in State}
    assert ways[State.VERIFYING] == {State.DOWNLOADING}
    assert ways[State.STAGED] == {State.VERIFYING}
    assert ways[State.ACTIVATING] == {State.STAGED}
    assert ways[State.PROBATION] == {State.ACTIVATING}
    assert ways[State.COMMITTED] == {State.ACTIVATING, State.PROBATION}


def test_what_went_back_stays_bad() -> None:
    reached, new = set(), {State.ROLLING_BACK}
    while new:
        reached |= new
        new = {a for (b, e), a in TABLE.items() if b in reached and e is not Event.LIFTED} - reached
    assert reached == BAD


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (State.DOWNLOADING, Action.DOWNLOAD),
        (State.VERIFYING, Action.ADOPT),
        (State.STAGED, Action.ACTIVATE),
        (State.ACTIVATING, Action.LOOK),
        (State.PROBATION, Action.WATCH),
        (State.ROLLING_BACK, Action.ROLL_BACK),
        (State.ROLLED_BACK, Action.CONDEMN),
        (State.FAILED, Action.WAIT),
        (State.COMMITTED, Action.NOTHING),
        (State.QUARANTINED, Action.NOTHING),
        (State.CANCELLED, Action.NOTHING),
    ],
)
def test_after_a_restart(state: State, action: Action) -> None:
    assert states.resume(state) is action
    assert (action is Action.NOTHING) is (state in ENDS)
    assert not (state in SWITCHING and action in (Action.DOWNLOAD, Action.ADOPT, Action.NOTHING))
