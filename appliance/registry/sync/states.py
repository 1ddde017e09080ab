"""The states of an update, as two tables: what leads from one to the next, and what is seen of one that runs or ran.

Until ACTIVATING the old version runs and nobody noticed. From then on the supervisor acts, and writes what should run and
what is bad (store/desired.py) in one piece; what follows for the update from that is SEEN. After a restart an update is
found in some state, and the same steps are taken again from there: each of them may be taken twice.
"""

from enum import Enum
from typing import NamedTuple

from appliance.errors import FailedPrecondition


class State(str, Enum):
    """Of one update. The last three are ends."""

    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    ACTIVATING = "activating"
    PROBATION = "probation"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    COMMITTED = "committed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


class Event(str, Enum):
    """What happened to it."""

    FETCHED = "fetched"  # every blob is here
    ADOPTED = "adopted"  # the store lists the version
    ACTIVATE = "activate"  # the supervisor is asked to make it run
    SWITCHED = "switched"  # it runs, on probation
    SETTLED = "settled"  # it runs, and has nothing left to show
    WORSE = "worse"  # than the version before it
    CALLED_BACK = "called_back"  # an operator went back
    BACK = "back"  # the version before it runs again
    CONDEMNED = "condemned"  # that it is bad is known and told
    UNFIT = "unfit"  # no try will help: it breaks the rules, or its golden tests fail
    BROKE_OFF = "broke_off"  # another try may help
    RETRY = "retry"
    GIVEN_UP = "given_up"  # another release takes its place, or it was withdrawn
    LIFTED = "lifted"  # an operator allows it again


class WrongTransition(FailedPrecondition):
    """An event that cannot happen in this state: a bug, or a message of an earlier life."""

    default_reason = "SYNC_TRANSITION"


TABLE: dict[tuple[State, Event], State] = {
    (State.DOWNLOADING, Event.FETCHED): State.VERIFYING,
    (State.DOWNLOADING, Event.BROKE_OFF): State.FAILED,
    (State.DOWNLOADING, Event.UNFIT): State.QUARANTINED,
    (State.DOWNLOADING, Event.GIVEN_UP): State.CANCELLED,
    (State.VERIFYING, Event.ADOPTED): State.STAGED,
    (State.VERIFYING, Event.BROKE_OFF): State.FAILED,
    (State.VERIFYING, Event.UNFIT): State.QUARANTINED,
    (State.VERIFYING, Event.GIVEN_UP): State.CANCELLED,
    (State.STAGED, Event.ACTIVATE): State.ACTIVATING,
    (State.STAGED, Event.BROKE_OFF): State.FAILED,
    (State.STAGED, Event.GIVEN_UP): State.CANCELLED,
    (State.ACTIVATING, Event.SWITCHED): State.PROBATION,
    (State.ACTIVATING, Event.SETTLED): State.COMMITTED,
    (State.ACTIVATING, Event.UNFIT): State.QUARANTINED,
    (State.ACTIVATING, Event.BROKE_OFF): State.FAILED,
    (State.PROBATION, Event.SETTLED): State.COMMITTED,
    (State.PROBATION, Event.WORSE): State.ROLLING_BACK,
    (State.PROBATION, Event.CALLED_BACK): State.ROLLING_BACK,
    (State.PROBATION, Event.GIVEN_UP): State.CANCELLED,
    (State.COMMITTED, Event.CALLED_BACK): State.ROLLING_BACK,
    (State.ROLLING_BACK, Event.BACK): State.ROLLED_BACK,
    (State.ROLLED_BACK, Event.CONDEMNED): State.QUARANTINED,
    (State.QUARANTINED, Event.LIFTED): State.CANCELLED,
    (State.FAILED, Event.RETRY): State.DOWNLOADING,
    (State.FAILED, Event.UNFIT): State.QUARANTINED,
    (State.FAILED, Event.GIVEN_UP): State.CANCELLED,
}

# What has been brought of it so far is needed.
UNDER_WAY = frozenset({State.DOWNLOADING, State.VERIFYING, State.STAGED, State.ACTIVATING, State.FAILED})
ENDS = frozenset({State.COMMITTED, State.QUARANTINED, State.CANCELLED})
# From here on the digest is on the list of those that are never tried again.
BAD = frozenset({State.ROLLING_BACK, State.ROLLED_BACK, State.QUARANTINED})


def after(state: State, event: Event) -> State:
    """The next state. Raises WrongTransition."""
    found = TABLE.get((state, event))
    if found is None:
        raise WrongTransition(f"an update that is {state.value} cannot be {event.value.replace('_', ' ')}")
    return found


class Seen(NamedTuple):
    """What the store says of an update's version: whether it is what should run, on probation, quarantined, stored."""

    runs: bool
    on_probation: bool = False
    is_bad: bool = False
    is_stored: bool = True


def follows(state: State, seen: Seen) -> tuple[Event, ...]:
    """The events that must have happened since ``state``, in their order."""
    if seen.runs:
        settled = Event.SWITCHED if seen.on_probation else Event.SETTLED
        return {
            # An operator has brought it, and made it run.
            State.DOWNLOADING: (Event.GIVEN_UP,),
            State.VERIFYING: (Event.GIVEN_UP,),
            State.FAILED: (Event.GIVEN_UP,),
            State.STAGED: (Event.ACTIVATE, settled),
            State.ACTIVATING: (settled,),
            State.PROBATION: () if seen.on_probation else (Event.SETTLED,),
            State.QUARANTINED: () if seen.is_bad else (Event.LIFTED,),
        }.get(state, ())
    back = (Event.BACK, Event.CONDEMNED)
    if seen.is_bad:
        return {
            State.ACTIVATING: (Event.UNFIT,),
            State.PROBATION: (Event.WORSE, *back),
            State.COMMITTED: (Event.CALLED_BACK, *back),
            State.ROLLING_BACK: back,
            State.ROLLED_BACK: back[1:],
        }.get(state, ())
    # Neither: an operator has made another version run, or none, or has lifted the quarantine.
    return {
        State.PROBATION: (Event.GIVEN_UP,),
        State.QUARANTINED: (Event.LIFTED,) if seen.is_stored else (),
    }.get(state, ())
