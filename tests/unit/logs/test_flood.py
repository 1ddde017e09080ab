"""What passes, what is counted, and when it is told: by a clock that only the test moves."""

from hypothesis import given
from hypothesis import strategies as st

from appliance.logs.flood import Flood, Held

WINDOW = 1000


def bounds(model: str, burst: int = 2, event: int = 4, lines: int = 100) -> list[tuple[tuple[str, ...], int]]:
    return [(("failed", model), burst), (("failed",), event), ((), lines)]


def test_a_burst_passes_and_the_rest_is_counted_and_told_once() -> None:
    flood: Flood[tuple[str, ...]] = Flood(WINDOW)
    assert [flood.admit(bounds("a"), now) for now in range(5)] == [None, None, *[("failed", "a")] * 3]
    assert flood.ended(999) == []
    assert flood.next_end_ms() == 1000
    assert flood.ended(1000) == [Held(("failed", "a"), 3, WINDOW)]
    assert flood.ended(1000) == []
    assert flood.next_end_ms() is None


def test_a_new_window_begins_with_the_next_line() -> None:
    flood: Flood[tuple[str, ...]] = Flood(WINDOW)
    for now in (0, 1, 2):
        flood.admit(bounds("a"), now)
    assert flood.admit(bounds("a"), 1500) is None
    assert flood.ended(1500) == [Held(("failed", "a"), 1, WINDOW)]
    assert [flood.admit(bounds("a"), now) for now in (1501, 2499, 2500)] == [None, ("failed", "a"), None]


def test_what_is_held_back_takes_nobodys_place() -> None:
    flood: Flood[tuple[str, ...]] = Flood(WINDOW)
    for _ in range(1000):
        flood.admit(bounds("loud"), 0)
    assert [flood.admit(bounds("quiet"), 1) for _ in range(2)] == [None, None]


def test_names_that_are_made_up_meet_the_wider_bound() -> None:
    flood: Flood[tuple[str, ...]] = Flood(WINDOW)
    full = [flood.admit(bounds(f"model{n}"), 0) for n in range(1000)]
    assert full == [None] * 4 + [("failed",)] * 996
    assert flood.admit([(("died", "m"), 2), (("died",), 4), ((), 100)], 1) is None
    assert flood.close(10) == [Held(("failed",), 996, 10)]


def test_the_widest_bound_holds_for_all() -> None:
    flood: Flood[tuple[str, ...]] = Flood(WINDOW)
    full = [flood.admit([((str(n), "m"), 2), ((str(n),), 4), ((), 3)], 0) for n in range(5)]
    assert full == [None, None, None, (), ()]
    assert flood.ended(WINDOW) == [Held((), 2, WINDOW)]


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from("abcdef"))))
def test_every_line_is_written_or_counted(steps: list[tuple[int, str]]) -> None:
    flood: Flood[tuple[str, ...]] = Flood(WINDOW)
    now = written = told = 0
    for step, model in steps:
        now += step
        written += flood.admit(bounds(model), now) is None
        told += sum(held.lines for held in flood.ended(now))
    told += sum(held.lines for held in flood.close(now))
    assert written + told == len(steps)
    assert flood.next_end_ms() is None
