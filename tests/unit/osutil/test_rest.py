"""Who has had more than its share rests, everybody at the same time, and only while others want the processor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.osutil.rest import Credit, Rest

MS = 1_000_000


def used(credit: Credit, start_ms: int, milliseconds: int, share: float) -> int:
    """Counts every millisecond of a process that uses so much of its core; returns the time in ns."""
    for millisecond in range(start_ms, start_ms + milliseconds + 1):
        credit.count(millisecond * MS, int((millisecond - start_ms) * MS * share))
    return (start_ms + milliseconds) * MS


@pytest.mark.parametrize(
    ("milliseconds", "share", "rests"),
    [
        (1000, 0.1, False),
        (1000, 0.44, False),
        (1000, 0.5, True),
        (1000, 1.0, True),
        # A burst is nobody's business.
        (50, 1.0, False),
        (60, 1.0, True),
        # More than one core: several threads.
        (30, 2.0, True),
    ],
)
def test_more_than_a_share_must_rest(milliseconds: int, share: float, rests: bool) -> None:
    credit = Credit()
    used(credit, 1000, milliseconds, share)
    assert (credit.rest_ns(1_030 * MS) > 0) is rests


@pytest.mark.parametrize(
    ("into_ms", "rest_ms"),
    [(0, 0), (10, 0), (19, 0), (20, 20), (25, 15), (39, 1)],
)
def test_rests_are_the_second_half_of_each_period(into_ms: int, rest_ms: int) -> None:
    credit = Credit(left=-1000)
    for period in (0, 1, 1_000_003):
        assert credit.rest_ns((period * 40 + into_ms) * MS) == rest_ms * MS


def test_what_was_rested_is_credit_again() -> None:
    credit = Credit()
    now = used(credit, 1000, 1000, 1.0)
    assert credit.left < 0
    credit.count(now + 60 * MS, 1000 * MS)  # it computed nothing
    assert credit.left < 0
    credit.count(now + 70 * MS, 1000 * MS)
    assert credit.left > 0


def test_a_long_idle_time_saves_no_more_than_a_burst() -> None:
    credit = Credit()
    credit.count(1 * MS, 0)
    credit.count(3_600_000 * MS, 0)
    credit.count(3_600_060 * MS, 60 * MS)
    assert credit.left < 0


@given(st.lists(st.tuples(st.integers(1, 10_000), st.integers(0, 20_000)), max_size=200))
def test_debts_are_bounded(steps: list[tuple[int, int]]) -> None:
    """However long it computed: it is back after less than a tenth of a second."""
    credit = Credit()
    now = used_ns = 0
    for waited_us, used_us in steps:
        now, used_ns = now + waited_us * 1000, used_ns + used_us * 1000
        credit.count(now, used_ns)
        assert -30 * MS <= credit.left <= 30 * MS
    credit.count(now + 70 * MS, used_ns)
    assert credit.rest_ns(now + 70 * MS) == 0


class SimulatedTime:
    """Both clocks of a process that computes whenever it doesn't sleep."""

    def __init__(self) -> None:
        self.now = self.used = 1_000 * MS
        self.slept: list[tuple[int, int]] = []

    def monotonic_ns(self) -> int:
        return self.now

    def process_time_ns(self) -> int:
        return self.used

    def work(self, milliseconds: float) -> None:
        self.now += round(milliseconds * MS)
        self.used += round(milliseconds * MS)

    def sleep(self, seconds: float) -> None:
        began, self.now = self.now, self.now + round(seconds * 1e9)
        self.slept.append((began, self.now))


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    made = SimulatedTime()
    monkeypatch.setattr("appliance.osutil.rest.time", made)
    return made


@pytest.mark.parametrize("piece_ms", [0.1, 1.5, 7, 35])
def test_a_busy_loop_is_kept_to_half_of_its_core(simulated: SimulatedTime, piece_ms: float) -> None:
    rest, began = Rest(lambda: True), simulated.now
    while simulated.now < began + 4_000 * MS:
        rest()
        simulated.work(piece_ms)
    share = sum(end - start for start, end in simulated.slept) / (simulated.now - began)
    assert 0.35 < share < 0.65
    # All processes rest at the same time, and work at the same time.
    assert all(end % (40 * MS) == 0 for _, end in simulated.slept)
    halves = [start % (40 * MS) >= 20 * MS for start, _ in simulated.slept]
    assert piece_ms > 20 or sum(halves) > 0.8 * len(halves)


def test_nobody_rests_while_nobody_else_computes(simulated: SimulatedTime) -> None:
    computes = False
    rest = Rest(lambda: computes)
    for _ in range(1000):
        rest()
        simulated.work(1)
    assert simulated.slept == []
    computes = True
    for _ in range(50):  # what was used before they came is not held against it
        rest()
        simulated.work(1)
    assert simulated.slept == []
    for _ in range(50):
        rest()
        simulated.work(1)
    assert simulated.slept
