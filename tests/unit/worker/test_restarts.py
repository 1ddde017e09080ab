import random

from appliance import limits
from appliance.worker.restarts import RestartPolicy


def policy(restarts_max: int | None = 5) -> RestartPolicy:
    return RestartPolicy(restarts_max, random.Random(1))


def test_backoff_doubles_up_to_its_cap() -> None:
    keeper = policy(None)
    delays = [keeper.died(now_ms=i * 20_000, up_ms=0).delay_ms for i in range(12)]
    expected = limits.restart_backoff_ms_min
    for delay in delays:
        assert expected // 2 <= delay <= expected
        expected = min(2 * expected, limits.restart_backoff_ms_max)
    assert delays[-1] >= limits.restart_backoff_ms_max // 2


def test_a_long_life_forgives_the_backoff() -> None:
    keeper = policy(None)
    for i in range(6):
        keeper.died(now_ms=i, up_ms=0)
    assert keeper.died(now_ms=10, up_ms=limits.okay_delay_ms).delay_ms <= limits.restart_backoff_ms_min


def test_the_budget_ends_it() -> None:
    keeper = policy(5)
    decisions = [keeper.died(now_ms=1000 * i, up_ms=900) for i in range(6)]
    assert [d.give_up for d in decisions] == [False] * 5 + [True]


def test_deaths_outside_the_window_do_not_count() -> None:
    keeper = policy(5)
    assert not any(keeper.died(limits.restart_window_ms * i, 10).give_up for i in range(20))


def test_a_front_end_is_never_given_up() -> None:
    keeper = policy(None)
    assert not any(keeper.died(now_ms=i, up_ms=0).give_up for i in range(100))


def test_jitter_spreads_deaths_that_came_together() -> None:
    delays = set()
    for seed in range(8):
        keeper = RestartPolicy(None, random.Random(seed))
        for _ in range(5):
            decision = keeper.died(0, 0)
        delays.add(decision.delay_ms)
    assert len(delays) >= 6
