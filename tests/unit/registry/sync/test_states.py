"""The table of an update's states: complete, without dead ends, and what follows from what is seen."""

import itertools

import pytest

from appliance.registry.sync import states
from appliance.registry.sync.states import BAD, ENDS, TABLE, Event, Seen, State, WrongTransition


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


RUNS, TRIED, BACK, GONE = Seen(True), Seen(True, on_probation=True), Seen(False, is_bad=True), Seen(False)
RAN_BACK = (Event.BACK, Event.CONDEMNED)


@pytest.mark.parametrize(
    ("state", "seen", "events"),
    [
        (State.STAGED, RUNS, (Event.ACTIVATE, Event.SETTLED)),
        (State.STAGED, TRIED, (Event.ACTIVATE, Event.SWITCHED)),
        (State.STAGED, GONE, ()),
        (State.ACTIVATING, RUNS, (Event.SETTLED,)),
        (State.ACTIVATING, TRIED, (Event.SWITCHED,)),
        (State.ACTIVATING, BACK, (Event.UNFIT,)),
        (State.ACTIVATING, GONE, ()),
        (State.PROBATION, TRIED, ()),
        (State.PROBATION, RUNS, (Event.SETTLED,)),
        (State.PROBATION, BACK, (Event.WORSE, *RAN_BACK)),
        (State.PROBATION, GONE, (Event.GIVEN_UP,)),
        (State.COMMITTED, RUNS, ()),
        (State.COMMITTED, BACK, (Event.CALLED_BACK, *RAN_BACK)),
        (State.COMMITTED, GONE, ()),
        # A kill between two of the events that one look writes down.
        (State.ROLLING_BACK, BACK, RAN_BACK),
        (State.ROLLED_BACK, BACK, (Event.CONDEMNED,)),
        (State.QUARANTINED, BACK, ()),
        (State.QUARANTINED, GONE, (Event.LIFTED,)),
        (State.QUARANTINED, Seen(False, is_stored=False), ()),
        (State.QUARANTINED, RUNS, (Event.LIFTED,)),
        (State.DOWNLOADING, RUNS, (Event.GIVEN_UP,)),
        (State.DOWNLOADING, GONE, ()),
        (State.FAILED, RUNS, (Event.GIVEN_UP,)),
        (State.CANCELLED, RUNS, ()),
    ],
)
def test_what_follows_from_what_is_seen(state: State, seen: Seen, events: tuple[Event, ...]) -> None:
    assert states.follows(state, seen) == events


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("seen", [Seen(*flags) for flags in itertools.product((False, True), repeat=4)])
def test_what_follows_is_in_the_table_and_nothing_follows_twice(state: State, seen: Seen) -> None:
    for event in states.follows(state, seen):
        state = states.after(state, event)
    assert states.follows(state, seen) == ()
