"""Which calls are a comparison's, and what becomes of one that the candidate cannot answer."""

from collections.abc import Iterator

import pytest

from appliance.comparison import Beside, Mode, Tally, add
from appliance.control import Route, RouteTable
from appliance.errors import (
    ApplianceError,
    Cancelled,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from appliance.serve.likeness import Likeness
from appliance.serve.trials import Trial, Trials
from appliance.types import ModelState

ROUTE = Route("m", "1", ModelState.READY, True, "/s")


def trial(percent: float = 50.0, mode: Mode = Mode.CANARY) -> Trial:
    return Trial(ROUTE, Beside(7, "2", mode, percent))


def told(one: Trial) -> Tally:
    return one.told() or Tally(7)


@pytest.mark.parametrize(
    ("percent", "calls", "taken"),
    [(100, 10, 10), (50, 10, 5), (5, 1000, 50), (33.3, 1000, 333), (0.1, 1000, 1), (0.1, 999, 0), (99, 100, 99)],
)
def test_exactly_the_share_is_taken(percent: float, calls: int, taken: int) -> None:
    one = trial(percent)
    assert sum(one.take() for _ in range(calls)) == taken
    assert (told(one).offered, one.told()) == (calls, None)


@pytest.mark.parametrize("percent", [5, 30, 50, 90, 100])
def test_plain_calls_are_counted_once(percent: float) -> None:
    """The express lane asks whether a call passes; what doesn't comes again by the other way, which takes it."""
    one = trial(percent)
    taken = sum(one.take() for _ in range(1000) if not one.passes())
    seen = told(one)
    assert taken == seen.taken == percent * 10
    assert seen.offered == 1000


def test_a_sequence_stays_with_one_version_in_every_front_end() -> None:
    here, there = trial(30), trial(30)
    names = [f"client\0{number}" for number in range(2000)]
    first = [here.take(name) for name in names]
    assert [there.take(name) for name in reversed(names)] == first[::-1]
    assert [here.take(name) for name in names] == first
    assert 0.25 < sum(first) / len(names) < 0.35


def test_a_sequence_has_no_shadow() -> None:
    one = trial(100, Mode.SHADOW)
    assert not one.take("client\0001")
    assert told(one).skipped == 1


# --- failures --------------------------------------------------------------------------------------------------------


def candidate_raises(error: ApplianceError, asked: list[str]) -> object:
    def on(version: str) -> str:
        asked.append(version)
        if version == "2":
            raise error
        return "active"

    return on


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (InternalError("broken"), 1),
        (Unavailable("died", reason="ENGINE_DIED"), 1),
        (InvalidArgument("it takes something else"), 1),
        # That it isn't there, or is full, says nothing about its answers.
        (ResourceExhausted("full"), 0),
        (Unavailable("loading", reason="MODEL_NOT_READY"), 0),
        (Unavailable("down", reason="ENGINE_DOWN"), 0),
    ],
)
def test_what_the_candidate_cannot_answer_the_active_version_does(error: ApplianceError, failed: int) -> None:
    one, asked = trial(), []
    assert one.answered(candidate_raises(error, asked)) == "active"
    assert asked == ["2", ""]
    one.take()
    seen = told(one)
    assert (seen.retried, seen.candidate.failed) == (1, failed)


@pytest.mark.parametrize("error", [Cancelled("gone"), DeadlineExceeded("late")])
def test_a_call_whose_time_is_over_is_not_asked_again(error: ApplianceError) -> None:
    one, asked = trial(), []
    with pytest.raises(type(error)):
        one.answered(candidate_raises(error, asked))
    assert asked == ["2"]
    assert one.told() is None


def test_a_caller_who_is_wrong_is_told_so_and_nobody_else_is_blamed() -> None:
    one = trial()

    def wrong(_version: str) -> str:
        raise InvalidArgument("no such input")

    with pytest.raises(InvalidArgument):
        one.answered(wrong)
    assert one.told() is None


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (InvalidArgument("unknown", reason="SEQUENCE_UNKNOWN"), True),  # it began before the comparison did
        (Unavailable("loading", reason="MODEL_NOT_READY"), True),
        (InternalError("broken"), False),  # its state is there: nobody else can go on
    ],
)
def test_a_call_of_a_sequence(error: ApplianceError, again: bool) -> None:
    one, asked = trial(), []
    on = candidate_raises(error, asked)
    if again:
        assert one.answered(on, "client\0001") == "active"
    else:
        with pytest.raises(type(error)):
            one.answered(on, "client\0001")
    assert asked == (["2", ""] if again else ["2"])


def pieces(fail_after: int, asked: list[str]) -> object:
    def on(version: str) -> Iterator[str]:
        asked.append(version)
        for number in range(3):
            if version == "2" and number == fail_after:
                raise InternalError("broken")
            yield f"{version or 'active'} {number}"

    return on


def test_a_text_comes_whole_from_one_version() -> None:
    one, asked = trial(), []
    assert list(one.streamed(pieces(0, asked))) == ["active 0", "active 1", "active 2"]
    assert asked == ["2", ""]
    with pytest.raises(InternalError):
        list(one.streamed(pieces(1, asked)))
    assert list(one.streamed(pieces(3, asked))) == ["2 0", "2 1", "2 2"]
    assert told(one).candidate.failed == 2


def test_a_shadow_asks_the_active_version_only() -> None:
    one, asked = trial(100, Mode.SHADOW), []
    assert one.answered(candidate_raises(InternalError("x"), asked)) == "active"
    assert list(one.streamed(pieces(0, asked))) == ["active 0", "active 1", "active 2"]
    assert asked == ["", ""]


# --- counting and tables ---------------------------------------------------------------------------------------------


def test_pairs_add_up_over_front_ends() -> None:
    one = trial()
    one.count_pair(1_000_000, 2_000_000, Likeness(True, True, 0.5, 0.1))
    one.count_pair(1_000_000, 2_000_000, Likeness(True, False, 0.25, 0.3))
    one.count_pair(1_000_000, 2_000_000, Likeness(False))
    total = Tally(7)
    add(total, told(one))
    one.count_pair(1_000_000, 2_000_000, Likeness(True, None, 0.0, 0.0))
    add(total, told(one))
    assert (total.pairs, total.unlike, total.classified, total.agreed, total.numeric) == (4, 1, 3, 1, 3)
    assert (total.distance_max, total.relative_max, round(total.relative_sum, 6)) == (0.5, 0.3, 0.4)
    assert sum(total.active.latency.values()) == sum(total.candidate.latency.values()) == 4
    assert min(total.candidate.latency) > max(total.active.latency)


def table(beside: Beside | None, active: str = "1") -> RouteTable:
    routes = [Route("m", v, ModelState.READY, v == active, "/s", beside=beside if v == active else None) for v in "12"]
    return RouteTable(1, tuple(routes))


def test_the_table_says_what_is_compared() -> None:
    trials = Trials()
    trials.apply(table(None))
    assert trials.current is None
    assert trials.of("m", "") is None
    trials.apply(table(Beside(7, "2", Mode.CANARY, 100)))
    one = trials.of("m", "")
    assert one is not None
    assert trials.of("m", "1") is None
    assert trials.of("other", "") is None
    trials.apply(table(Beside(7, "2", Mode.CANARY, 100)))
    assert trials.of("m", "") is one
    # Calls that still end when it has left the table are told, once.
    trials.apply(table(None, active="2"))
    assert trials.current is None
    assert [t.taken for t in trials.take_tallies()] == [2]
    assert trials.take_tallies() == ()
