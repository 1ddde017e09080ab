"""The flag that stops a decode: raised in time, by the clock alone, and read by llama.cpp's own C call."""

import pytest

from appliance.clock import FakeClock
from appliance.engine.llama.watch import StepWatch


@pytest.fixture
def clock():
    return FakeClock(10**9)


@pytest.fixture
def watch(clock):
    made = StepWatch(clock)
    yield made
    made.close()


def asked(watch):
    return bool(watch.callback(watch.data))


def test_a_decode_goes_on_until_its_time_has_come(watch, clock):
    watch.arm(clock.monotonic_ns() + 5_000_000_000)
    watch.look()
    assert not asked(watch)
    clock.advance(5)
    watch.look()
    assert asked(watch)
    assert watch.disarm()
    assert not asked(watch)


def test_no_end_and_no_step_no_flag(watch, clock):
    watch.arm(0)
    clock.advance(1000)
    watch.look()
    assert not asked(watch)
    assert not watch.disarm()
    watch.look()
    assert not asked(watch)


def test_the_thread_looks_by_itself(watch, clock):
    watch.arm(1)  # long past
    while not asked(watch):  # the test's own timeout is the deadline
        pass
    assert watch.disarm()
