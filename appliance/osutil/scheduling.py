"""How a process of each role is treated by the kernel's scheduler: decided in a table, then applied to its threads.

The latency path (front-ends, engines of latency models) gets SCHED_RR at the lowest real-time priority where the system
allows it: it preempts whatever computes within microseconds, on any kernel, and its own threads don't preempt each
other. It is kept bounded three times over: by the kernel's real-time throttle, without which it isn't used; by limits on
one piece of work and on a process's share (realtime.py), beyond which a process falls back; and by never being given to
throughput engines.

Throughput engines get, always, a nice value and a long time slice. Where real time isn't allowed, the latency path gets
a short one (Linux 6.12 and later) while there is throughput work: a waking thread of a shorter slice preempts. While
there is none, front-ends are under SCHED_BATCH, where their threads don't preempt each other (serve/README.md).
"""

import contextlib
import os
import resource
from pathlib import Path
from typing import Literal

import msgspec

from appliance.osutil.sched_attr import SchedAttr, get_attr, set_attr

Role = Literal["front_end", "latency", "throughput"]

# The lowest: threads of the system that need real time (watchdogs, sound, interrupts) go first.
_PRIORITY = 1
# A tenth of the weight of a normal process: what is left for it when everybody wants the processor all the time.
_THROUGHPUT_NICE = 10
# Of 0.1 to 100 ms. Long, so that anybody who wakes up may preempt it, and nobody is switched to in vain.
_THROUGHPUT_SLICE_NS = 50_000_000
# Shorter than the kernel's own 2.8 ms; a small call's work is done in it.
_LATENCY_SLICE_NS = 500_000
_CAP_SYS_NICE = 23


class Allowance(msgspec.Struct, frozen=True):
    """What the system lets a process do.

    ``priority_max``: RLIMIT_RTPRIO. ``throttle_us``: what real-time threads may use of each second, -1 without bound, None
    unknown. ``rttime_us``: after how much work without a pause a real-time thread is killed, -1: never.
    """

    priority_max: int
    capable: bool
    throttle_us: int | None
    rttime_us: int
    slices: bool


def realtime_refusal(allowance: Allowance) -> str:
    """Why no process may have a real-time class here, as a sentence's end; "" when it may."""
    if allowance.priority_max < _PRIORITY and not allowance.capable:
        return "the limit of real-time priorities is 0 (LimitRTPRIO= in the unit, rtprio in limits.conf)"
    if allowance.throttle_us is None:
        return "the kernel doesn't say whether it bounds real-time threads (kernel.sched_rt_runtime_us)"
    if allowance.throttle_us < 0:
        return "the kernel doesn't bound real-time threads (kernel.sched_rt_runtime_us is -1)"
    if allowance.rttime_us >= 0:
        return "a limit on real-time processor time would kill engines (LimitRTTIME= in the unit)"
    return ""


def treatment(role: Role, *, realtime: bool, slices: bool, contended: bool = True) -> SchedAttr:
    """What the threads of a process get.

    ``realtime``: wanted and allowed. ``slices``: the kernel knows them. ``contended``: throughput engines compute.
    """
    if role == "throughput":
        return SchedAttr(os.SCHED_BATCH, _THROUGHPUT_NICE, slice_ns=_THROUGHPUT_SLICE_NS if slices else 0)
    # Threads that gRPC starts while it serves must be as fast as the others; an engine starts none that need be. Once set
    # this flag stays: only CAP_SYS_NICE may take it back, so that a treatment without it would be refused.
    reset = role == "latency"
    if realtime:
        return SchedAttr(os.SCHED_RR, priority=_PRIORITY, reset_on_fork=reset)
    if slices and (contended or role == "latency"):
        return SchedAttr(os.SCHED_OTHER, slice_ns=_LATENCY_SLICE_NS, reset_on_fork=reset)
    return SchedAttr(os.SCHED_BATCH if role == "front_end" else os.SCHED_OTHER, reset_on_fork=reset)


# --- looking and doing -----------------------------------------------------------------------------------------------


def look(proc: Path = Path("/proc"), pid: int = 0) -> Allowance:
    """What this process may do, or process ``pid``."""
    own = proc / str(pid or "self")
    soft, hard = _limit(own, "realtime priority", resource.RLIMIT_RTPRIO if not pid else None)
    _, rttime = _limit(own, "realtime timeout", resource.RLIMIT_RTTIME if not pid else None)
    return Allowance(
        priority_max=99 if resource.RLIM_INFINITY in (soft, hard) else max(soft, hard),
        capable=bool(_capabilities(own) >> _CAP_SYS_NICE & 1),
        throttle_us=_number(proc / "sys/kernel/sched_rt_runtime_us"),
        rttime_us=-1 if rttime == resource.RLIM_INFINITY else rttime,
        slices=slices_known(),
    )


def slices_known() -> bool:
    """Whether this kernel takes time slices for normal threads: it then tells the one that a thread has."""
    try:
        own = get_attr()
    except OSError:
        return False
    return own.slice_ns > 0 and own.policy in (os.SCHED_OTHER, os.SCHED_BATCH)


def apply(attr: SchedAttr) -> None:
    """Gives ``attr`` to every thread of this process; threads that they start inherit it. Raises OSError when refused.

    A thread that is started meanwhile by one that hasn't been reached yet is found in the next round. A service that was
    started with a nice value (Nice= in its unit) keeps it where it must not have a lower one.
    """
    if attr.policy == os.SCHED_RR:
        soft, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
        if soft != hard:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_RTPRIO, (hard, hard))
    done: set[int] = set()
    while new := {int(name) for name in os.listdir("/proc/self/task")} - done:
        for tid in new:
            with contextlib.suppress(ProcessLookupError):
                _give(tid, attr)
        done |= new


def _give(tid: int, attr: SchedAttr) -> None:
    try:
        set_attr(tid, attr)
    except PermissionError:
        nice = os.getpriority(os.PRIO_PROCESS, tid)
        if attr.policy == os.SCHED_RR or attr.nice >= nice:
            raise
        set_attr(tid, attr._replace(nice=nice))


def try_realtime() -> str:
    """Whether a thread of this process is really let into the class: what ``realtime_refusal`` says, or the kernel.

    A seccomp filter (RestrictRealtime=) or a control group without real-time share refuses what limits allow.
    """
    refusal = realtime_refusal(look())
    if refusal:
        return refusal
    before = get_attr()
    try:
        set_attr(0, treatment("front_end", realtime=True, slices=False))
    except OSError as error:
        return f"the system refuses it ({error.strerror}; RestrictRealtime= in the unit, or a control group's share)"
    set_attr(0, before)
    return ""


def _limit(own: Path, name: str, number: int | None) -> tuple[int, int]:
    if number is not None:
        return resource.getrlimit(number)
    for line in _lines(own / "limits"):
        if line.startswith(f"Max {name}"):
            soft, hard = line.removeprefix(f"Max {name}").split()[:2]
            return _bound(soft), _bound(hard)
    return 0, 0


def _bound(text: str) -> int:
    return resource.RLIM_INFINITY if text == "unlimited" else int(text)


def _capabilities(own: Path) -> int:
    rows = (line.partition(":") for line in _lines(own / "status"))
    return next((int(value, 16) for name, _, value in rows if name == "CapEff"), 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
