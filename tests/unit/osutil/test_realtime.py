"""The budget of a real-time process, and the guard over a process that really has the class."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.osutil.realtime import Budget
from appliance.osutil.scheduling import try_realtime


def test_too_long_at_a_time_is_out_for_ever_longer() -> None:
    budget = Budget()
    now = 100.0
    for rest in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 600.0, 600.0):
        budget.overrun(now)
        for late, inside in ((0.0, False), (rest - 0.1, False), (rest, True)):
            budget.used(now + late, 0.0, contended=False)
            assert budget.inside is inside
        now += rest + 1.0


def test_what_was_long_ago_is_forgiven() -> None:
    budget = Budget()
    for now in (100.0, 200.0, 300.0):
        budget.overrun(now)
        budget.used(now + 1.0, 0.0, contended=False)
        assert budget.inside


def test_a_second_overrun_outside_of_the_class_changes_nothing() -> None:
    budget = Budget()
    budget.overrun(100.0)
    budget.overrun(100.5)
    budget.used(101.0, 0.0, contended=False)
    assert budget.inside


def test_a_share_that_is_too_large_counts_only_while_others_want_the_processor() -> None:
    budget = Budget()
    for share, contended, inside in (
        (0.9, False, True),
        (0.55, True, True),
        (0.7, True, False),
        (0.55, True, False),  # not before it is well below
        (0.4, True, True),
        (0.7, True, False),
        (0.7, False, True),
    ):
        budget.used(0.0, share, contended)
        assert budget.inside is inside


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 4), st.booleans()), max_size=60))
def test_nobody_stays_out_who_is_short_and_idle(events) -> None:
    budget = Budget()
    now = 0.0
    for long, share, contended in events:
        now += 1.0
        if long:
            budget.overrun(now)
            assert not budget.inside
        else:
            budget.used(now, share, contended)
    budget.used(now + 600.0, 0.0, contended=True)
    assert budget.inside


_LONG_RUN = """
import hashlib, logging, os, sys, time
from appliance.osutil.realtime import Guard
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
def policies(): return {{os.sched_getscheduler(int(tid)) & ~os.SCHED_RESET_ON_FORK for tid in os.listdir("/proc/self/task")}}
Guard("{role}", lambda: True, realtime=True, slices=True).start()
while policies() != {{os.SCHED_RR}}: time.sleep(0.001)
time.sleep(0.05)
for _ in range(100): hashlib.sha256(bytes(100_000)).digest()  # short work, if anything
data = bytes(64_000_000)
deadline = time.monotonic() + 30
while os.SCHED_RR in policies() and time.monotonic() < deadline: hashlib.sha256(data).digest()
assert os.SCHED_RR not in policies(), policies()
"""


@pytest.mark.parametrize("role", ["front_end", "latency"])
def test_a_long_run_leaves_the_class_and_lives(role: str) -> None:
    if try_realtime():
        pytest.skip("no real-time class for this user")
    code = _LONG_RUN.format(role=role)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left the real-time class") == 1


_REFUSED = """
import logging, os, sys, time
from appliance.osutil import scheduling
from appliance.osutil.realtime import Guard
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
true = scheduling.apply
def refusing(attr):
    if attr.policy == os.SCHED_RR: raise PermissionError(1, "Operation not permitted")
    true(attr)
scheduling.apply = refusing
tried = []
Guard("latency", lambda: tried.append(1) or True, realtime=True, slices=False).start()
while len(tried) < 5: time.sleep(0.001)
assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
"""


def test_a_process_that_is_refused_serves_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", _REFUSED], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the system refuses it") == 1


_COMES_AND_GOES = """
import os, time
from appliance.osutil.realtime import Guard
computing = False
def policies(): return {{os.sched_getscheduler(int(tid)) & ~os.SCHED_RESET_ON_FORK for tid in os.listdir("/proc/self/task")}}
def wait_for(wanted):
    deadline = time.monotonic() + 20
    while (policies() == {{os.SCHED_RR}}) is not wanted and time.monotonic() < deadline: time.sleep(0.001)
    assert (policies() == {{os.SCHED_RR}}) is wanted, policies()
Guard("{role}", lambda: computing, realtime=True, slices=True).start()
assert os.SCHED_RR not in policies()
for _ in range(2):
    computing = True
    wait_for(True)
    computing = False
    wait_for(False)
"""


@pytest.mark.parametrize("role", ["front_end", "latency"])
def test_the_class_is_for_the_time_in_which_others_compute(role: str) -> None:
    if try_realtime():
        pytest.skip("no real-time class for this user")
    code = _COMES_AND_GOES.format(role=role)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "left the real-time class" not in done.stdout + done.stderr
