"""The bandwidth's bound, on a clock that moves by what is waited."""

import pytest

from appliance.clock import FakeClock
from appliance.registry.pull.bandwidth import Bandwidth


class Line:
    def __init__(self, rate: float) -> None:
        self.clock = FakeClock(monotonic_ns=10**12)
        self.bandwidth = Bandwidth(rate, self.clock, self.clock.advance)

    def seconds_for(self, total: int, piece: int = 10_000) -> float:
        began = self.clock.monotonic_ns()
        for _ in range(total // piece):
            self.bandwidth.take(piece)
        return (self.clock.monotonic_ns() - began) / 1e9


@pytest.mark.parametrize("piece", [1_000, 10_000, 500_000])
def test_the_rate_is_kept(piece: int) -> None:
    assert Line(100_000).seconds_for(1_000_000, piece) == pytest.approx(10, abs=0.3)


def test_no_bound() -> None:
    assert Line(0).seconds_for(10**9, 10**6) == 0


def test_the_rate_may_change_while_it_runs() -> None:
    line = Line(100_000)
    line.seconds_for(200_000)
    line.bandwidth.limit(1_000_000)
    assert line.seconds_for(1_000_000) == pytest.approx(1, abs=0.3)
    line.bandwidth.limit(0)
    assert line.seconds_for(1_000_000) == 0
    line.bandwidth.limit(100_000)
    assert line.seconds_for(1_000_000) == pytest.approx(10, abs=0.3)


def test_who_waits_long_sees_a_new_rate_and_a_cancellation_soon() -> None:
    line, slept = Line(1_000), []

    def raised_while_it_waits(seconds: float) -> None:
        slept.append(seconds)
        line.clock.advance(seconds)
        if len(slept) == 3:
            line.bandwidth.limit(0)

    line.bandwidth = Bandwidth(1_000, line.clock, raised_while_it_waits)
    line.bandwidth.take(1_000_000)
    assert len(slept) == 3
    assert max(slept) <= 0.25
    line.bandwidth.limit(1_000)
    assert line.bandwidth.take(1_000_000, lambda: True) is None
    assert len(slept) == 3
    line.bandwidth.limit(0)
    line.bandwidth.limit(100_000)
    assert line.seconds_for(100_000) == pytest.approx(1, abs=0.3)


def test_a_pause_saves_no_more_than_a_burst() -> None:
    line = Line(100_000)
    line.clock.advance(3600)
    assert line.seconds_for(100_000) == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(
    ("rate", "expected"), [(0, 512_000), (1_000, 16_384), (100_000, 25_000), (2_000_000, 500_000), (1e9, 512_000)]
)
def test_at_a_low_rate_less_is_read_at_once(rate: float, expected: int) -> None:
    assert Bandwidth(rate).piece_bytes(512_000) == expected
    assert Bandwidth(rate).piece_bytes(100) == 100
