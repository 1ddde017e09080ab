"""Service classes in the real daemon: what the kernel says of its processes, with the right to real time and without."""

import ctypes
import os
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from daemon_process import Daemon
from running import add, is_root, running
from traffic import call

THROUGHPUT = '[serving]\nclass = "throughput"\n'
_PR_CAPBSET_DROP = 24
_CAP_SYS_NICE = 23


def allowed() -> bool:
    from appliance.osutil import scheduling

    return not scheduling.try_realtime()


@pytest.fixture
def box(fake_folder: Callable[..., Path]) -> Iterator[Daemon]:
    with running() as daemon:
        yield with_models(daemon, fake_folder)


def with_models(daemon: Daemon, fake_folder: Callable[..., Path]) -> Daemon:
    add(daemon, fake_folder("quick"))
    add(daemon, fake_folder("slow", more_toml=THROUGHPUT))
    return daemon


def policies(pid: int) -> set[int]:
    """Of all threads, without the flag that their children don't inherit it."""
    return {os.sched_getscheduler(int(t)) & ~os.SCHED_RESET_ON_FORK for t in os.listdir(f"/proc/{pid}/task")}


def nice(pid: int) -> set[int]:
    return {os.getpriority(os.PRIO_PROCESS, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}


def answers(box: Daemon) -> None:
    for model in ("quick", "slow"):
        assert call(box.address, model).as_numpy("out_x").tolist() == [1.0]


def test_the_latency_path_has_real_time_and_throughput_is_nice(box: Daemon) -> None:
    if not allowed():
        pytest.skip("no real-time class for this user")
    quick, slow, front_end = box.model("quick").pid, box.model("slow").pid, box.process_of("front-end 0")

    def computes_and_gives_way() -> bool:
        call(box.address, "slow")
        return policies(quick) == policies(front_end) == {os.SCHED_RR}

    box.eventually(computes_and_gives_way)
    assert policies(slow) == {os.SCHED_BATCH}
    assert nice(slow) == {10}
    assert policies(box.pid) == policies(box.process_of("sync")) == {os.SCHED_OTHER}
    answers(box)
    # Threads that came with the calls are of the class, too.
    assert policies(front_end) == {os.SCHED_RR}
    # Where nothing of the other class computes, nobody is starved for it.
    box.eventually(lambda: os.SCHED_RR not in policies(quick) | policies(front_end))
    assert "no real-time class" not in "".join(box.log)


def test_the_configuration_may_want_none(fake_folder: Callable[..., Path]) -> None:
    with running(config="[engines]\nrealtime = false\n") as daemon:
        with_models(daemon, fake_folder)
        everybody = [daemon.model("quick").pid, daemon.model("slow").pid, daemon.process_of("front-end 0")]
        assert all(os.SCHED_RR not in policies(pid) for pid in everybody)
        assert nice(daemon.model("slow").pid) == {10}
        answers(daemon)
        assert "no real-time class" not in "".join(daemon.log)


def test_without_the_right_all_serve_and_one_warning_says_so(
    short_path: Path, fake_folder: Callable[..., Path]
) -> None:
    if not is_root() or resource.getrlimit(resource.RLIMIT_RTPRIO) != (0, 0):
        pytest.skip("only root without a limit of its own loses the right with the capability")
    daemon = without_real_time(lambda: Daemon(short_path)).ready()
    try:
        with_models(daemon, fake_folder)
        everybody = [daemon.model("quick").pid, daemon.model("slow").pid, daemon.process_of("front-end 0")]
        assert all(os.SCHED_RR not in policies(pid) for pid in everybody)
        assert nice(daemon.model("slow").pid) == {10}
        answers(daemon)
        assert ["LimitRTPRIO=" in line for line in daemon.log if "no real-time class" in line] == [True]
    finally:
        daemon.stop()
        print("\n".join(daemon.log))


def without_real_time(start: Callable[[], Daemon]) -> Daemon:
    """What ``start`` starts, from a thread that has given up the capability: its children can't have it any more."""

    def give_up_and_start() -> Daemon:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_CAPBSET_DROP, _CAP_SYS_NICE, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        return start()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(give_up_and_start).result()
