"""What the engine says of itself: counters, and what is going on now."""

from appliance.clock import FakeClock
from appliance.engine.llama.accounts import Accounts

SECOND = 10**9


def test_tokens_a_second_are_those_of_the_last_seconds():
    clock = FakeClock(SECOND)
    accounts = Accounts(clock)
    for _ in range(10):
        for _ in range(5):
            accounts.generated()
        accounts.stepped(3_000_000)
        clock.advance(0.1)
    assert accounts.snapshot(waiting=0, running=1).tokens_per_second == 10.0
    clock.advance(4.5)
    assert 0 < accounts.snapshot(waiting=0, running=1).tokens_per_second < 10.0
    clock.advance(1)
    assert accounts.snapshot(waiting=0, running=0).tokens_per_second == 0.0


def test_the_step_is_the_median_of_the_last_ones():
    accounts = Accounts(FakeClock())
    assert accounts.snapshot(waiting=0, running=0).step_ns == 0
    for ns in (1, 5, 9, 1_000_000):
        accounts.stepped(ns)
    assert accounts.snapshot(waiting=0, running=0).step_ns == 7
    for _ in range(128):
        accounts.stepped(2)
    assert accounts.snapshot(waiting=0, running=0).step_ns == 2


def test_prefixes_guesses_and_set_backs_add_up():
    accounts = Accounts(FakeClock())
    for reused in (0, 400, 12):
        accounts.prefix(reused)
    accounts.drafted(5, 3)
    accounts.preempted()
    stats = accounts.snapshot(waiting=2, running=1, kv=(100, 60, 20))
    assert (stats.prefix_hits, stats.prefix_misses, stats.prefix_tokens_saved) == (2, 1, 412)
    assert (stats.drafted_tokens, stats.accepted_tokens, stats.preempted_count) == (5, 3, 1)
    assert (stats.kv_tokens, stats.kv_used, stats.kv_kept, stats.waiting, stats.running) == (100, 60, 20, 2, 1)
