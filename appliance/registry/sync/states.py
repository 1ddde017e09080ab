"""The states of an update, as a table: what leads from one to the next, and what is done after a restart in each.

Until ACTIVATING the old version runs and nobody noticed; a rolled-back one is quarantined before the old one comes back.
Whatever is done after a restart may have been done already, in full or in part: every action looks first.
"""

from enum import Enum

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


class Action(str, Enum):
    """What the sync process does in a state, at its start as well as otherwise."""

    DOWNLOAD = "download"  # go on with what is there
    ADOPT = "adopt"  # check all blobs and list the version
    ACTIVATE = "activate"
    LOOK = "look"  # ask which version runs: the switch may have been made
    WATCH = "watch"  # the supervisor judges it
    ROLL_BACK = "roll_back"
    CONDEMN = "condemn"
    WAIT = "wait"  # until the time of the next try
    NOTHING = "nothing"


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
    (State.COMMITTED, Event.CALLED_BACK): State.ROLLING_BACK,
    (State.ROLLING_BACK, Event.BACK): State.ROLLED_BACK,
    (State.ROLLED_BACK, Event.CONDEMNED): State.QUARANTINED,
    (State.QUARANTINED, Event.LIFTED): State.CANCELLED,
    (State.FAILED, Event.RETRY): State.DOWNLOADING,
    (State.FAILED, Event.UNFIT): State.QUARANTINED,
    (State.FAILED, Event.GIVEN_UP): State.CANCELLED,
}

_RESUME: dict[State, Action] = {
    State.DOWNLOADING: Action.DOWNLOAD,
    State.VERIFYING: Action.ADOPT,
    State.STAGED: Action.ACTIVATE,
    State.ACTIVATING: Action.LOOK,
    State.PROBATION: Action.WATCH,
    State.ROLLING_BACK: Action.ROLL_BACK,
    State.ROLLED_BACK: Action.CONDEMN,
    State.FAILED: Action.WAIT,
    State.COMMITTED: Action.NOTHING,
    State.QUARANTINED: Action.NOTHING,
    State.CANCELLED: Action.NOTHING,
}

# In these the new version may be what runs: the store keeps both it and the one before.
SWITCHING = frozenset({State.ACTIVATING, State.PROBATION, State.ROLLING_BACK, State.ROLLED_BACK})
ENDS = frozenset({State.COMMITTED, State.QUARANTINED, State.CANCELLED})
# From here on the digest is on the list of those that are never tried again.
BAD = frozenset({State.ROLLING_BACK, State.ROLLED_BACK, State.QUARANTINED})


def after(state: State, event: Event) -> State:
    """The next state. Raises WrongTransition."""
    found = TABLE.get((state, event))
    if found is None:
        raise WrongTransition(f"an update that is {state.value} cannot be {event.value.replace('_', ' ')}")
    return found


def resume(state: State) -> Action:
    """What is to be done for an update that a restart finds in this state."""
    return _RESUME[state]
