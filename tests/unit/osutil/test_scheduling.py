"""Who gets what from the scheduler: the tables, what is read of a made-up /proc, and what the kernel makes of it."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.osutil import scheduling
from appliance.osutil.sched_attr import SchedAttr
from appliance.osutil.scheduling import Allowance, look, realtime_refusal, treatment

FREE = Allowance(priority_max=1, capable=False, throttle_us=950_000, rttime_us=-1, slices=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, ""),
        ({"priority_max": 0}, "LimitRTPRIO="),
        ({"priority_max": 0, "capable": True}, ""),
        ({"throttle_us": -1}, "sched_rt_runtime_us is -1"),
        ({"throttle_us": None}, "doesn't say"),
        ({"rttime_us": 200_000}, "LimitRTTIME="),
        ({"slices": False}, ""),
    ],
)
def test_who_may_have_a_real_time_class(change, words) -> None:
    allowance = Allowance(**{**{f: getattr(FREE, f) for f in FREE.__struct_fields__}, **change})
    assert words in realtime_refusal(allowance)
    assert bool(words) == bool(realtime_refusal(allowance))


@pytest.mark.parametrize(
    ("role", "realtime", "slices", "contended", "expected"),
    [
        ("front_end", True, True, True, SchedAttr(os.SCHED_RR, priority=1)),
        ("latency", True, False, False, SchedAttr(os.SCHED_RR, priority=1, reset_on_fork=True)),
        ("front_end", False, True, True, SchedAttr(os.SCHED_OTHER, slice_ns=500_000)),
        ("front_end", False, True, False, SchedAttr(os.SCHED_BATCH)),
        ("front_end", False, False, True, SchedAttr(os.SCHED_BATCH)),
        ("latency", False, True, False, SchedAttr(os.SCHED_OTHER, slice_ns=500_000, reset_on_fork=True)),
        ("latency", False, False, True, SchedAttr(os.SCHED_OTHER, reset_on_fork=True)),
        ("throughput", True, True, True, SchedAttr(os.SCHED_BATCH, 10, slice_ns=50_000_000)),
        ("throughput", False, False, False, SchedAttr(os.SCHED_BATCH, 10)),
    ],
)
def test_treatment(role, realtime, slices, contended, expected) -> None:
    assert treatment(role, realtime=realtime, slices=slices, contended=contended) == expected


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "7").mkdir()
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/sched_rt_runtime_us").write_text("950000\n")
    (tmp_path / "7/status").write_text("Name:\tx\nCapEff:\t0000000000800000\n")
    (tmp_path / "7/limits").write_text(
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max realtime priority     0                    5                              \n"
        "Max realtime timeout      unlimited            unlimited            us        \n"
    )
    return tmp_path


def test_what_another_process_may_do(proc: Path) -> None:
    found = look(proc, 7)
    assert (found.priority_max, found.capable, found.throttle_us, found.rttime_us) == (5, True, 950_000, -1)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("7/limits", "Max realtime priority     0                    0\n", "LimitRTPRIO="),
        ("7/limits", "Max realtime priority  unlimited unlimited\nMax realtime timeout 5 900 us\n", "LimitRTTIME="),
        ("sys/kernel/sched_rt_runtime_us", "-1", "is -1"),
        ("sys/kernel/sched_rt_runtime_us", "what", "doesn't say"),
    ],
)
def test_what_another_process_may_not(proc: Path, file: str, text: str, words: str) -> None:
    (proc / "7/status").write_text("CapEff:\t0\n")
    (proc / file).write_text(text)
    assert words in realtime_refusal(look(proc, 7))


def test_of_a_process_that_is_gone_nothing_is_allowed(proc: Path) -> None:
    assert realtime_refusal(look(proc, 8))


_ALL_THREADS = """
import os, threading
from appliance.osutil import scheduling
from appliance.osutil.sched_attr import get_attr
stop = threading.Event()
threads = [threading.Thread(target=stop.wait) for _ in range(3)]
for thread in threads: thread.start()
wanted = scheduling.treatment({role!r}, realtime={realtime}, slices=scheduling.slices_known())
scheduling.apply(wanted)
assert [get_attr(int(tid)) for tid in os.listdir("/proc/self/task")] == [wanted] * 4
stop.set()
"""


@pytest.mark.parametrize("role", ["front_end", "latency", "throughput"])
@pytest.mark.parametrize("realtime", [False, True])
def test_every_thread_of_a_process_is_treated_so(role: str, realtime: bool) -> None:
    if realtime and scheduling.try_realtime():
        pytest.skip("no real-time class for this user")
    subprocess.run([sys.executable, "-c", _ALL_THREADS.format(role=role, realtime=realtime)], check=True, timeout=60)


_WITHOUT_PRIVILEGE = """
import ctypes, os, resource
resource.setrlimit(resource.RLIMIT_RTPRIO, ({limit}, {limit}))
libc = ctypes.CDLL(None)
assert libc.setgroups(0, None) == 0 and libc.setresuid(65534, 65534, 65534) == 0
from appliance.osutil import scheduling
from appliance.osutil.sched_attr import get_attr
print(scheduling.try_realtime())
if {limit}:
    slices = scheduling.slices_known()
    for realtime in (True, False, True):  # into the class, out of it, and in again: all without a privilege
        scheduling.apply(scheduling.treatment("latency", realtime=realtime, slices=slices))
        assert get_attr().policy == (os.SCHED_RR if realtime else os.SCHED_OTHER)
"""


@pytest.mark.parametrize(("limit", "words"), [(0, "LimitRTPRIO="), (1, "")])
def test_an_ordinary_user_by_the_limit(limit: int, words: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    _, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    if 0 <= hard < limit and not _may_raise_limits():
        pytest.skip("not even root may raise limits here")
    code = _WITHOUT_PRIVILEGE.format(limit=limit)
    code = "import appliance.osutil.scheduling, appliance.osutil.sched_attr\n" + code  # while its files can be read
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert words in done.stdout
    assert bool(words) == bool(done.stdout.strip())


def _may_raise_limits() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    capabilities = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    return bool(capabilities >> 24 & 1)  # CAP_SYS_RESOURCE


_STARTED_NICE = """
import appliance.osutil.scheduling, appliance.osutil.sched_attr
import ctypes, os, resource
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
os.setpriority(os.PRIO_PROCESS, 0, 5)
libc = ctypes.CDLL(None)
assert libc.setgroups(0, None) == 0 and libc.setresuid(65534, 65534, 65534) == 0
from appliance.osutil import scheduling
scheduling.apply(scheduling.treatment({role!r}, realtime=False, slices=scheduling.slices_known()))
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


@pytest.mark.parametrize(("role", "nice"), [("front_end", "5"), ("latency", "5"), ("throughput", "10")])
def test_a_service_that_was_started_nice_stays_so_and_lives(role: str, nice: str) -> None:
    """Nice= in a drop-in of the unit: nobody may go below it, and that is no reason to end."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = _STARTED_NICE.format(role=role)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == nice
