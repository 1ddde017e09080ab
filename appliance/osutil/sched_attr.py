"""sched_setattr(2), which the standard library lacks: a thread's policy, nice value, real-time priority and time slice.

A normal thread's slice (Linux 6.12 and later; sched_runtime in sched(7)) says how long it wants to run at a time, from
0.1 to 100 ms: one that wakes up with a shorter slice may preempt one with a longer slice. Older kernels take the number
and ignore it, so whoever needs to know reads it back.
"""

import contextlib
import ctypes
import errno
import os
import platform
import struct
from typing import NamedTuple

# Of the first version of struct sched_attr, and of the second, which get_attr may be given.
_LAYOUT = struct.Struct("=IIQiIQQQ")
_RESET_ON_FORK = 0x1  # SCHED_FLAG_RESET_ON_FORK
# Numbers of sched_setattr and sched_getattr.
_NUMBERS = {"x86_64": (314, 315), "aarch64": (274, 275)}


class SchedAttr(NamedTuple):
    """``policy`` is one of os.SCHED_*. ``nice`` is for normal policies, ``priority`` for real-time ones.

    ``slice_ns`` 0: the kernel's own. ``reset_on_fork``: threads that a thread starts from now on are normal ones.
    """

    policy: int
    nice: int = 0
    priority: int = 0
    slice_ns: int = 0
    reset_on_fork: bool = False


def set_attr(tid: int, attr: SchedAttr) -> None:
    """Applies ``attr`` to the thread ``tid`` (0: the caller). Raises OSError; ProcessLookupError when it is gone."""
    numbers = _NUMBERS.get(platform.machine())
    if numbers is None:
        _set_without_slice(tid, attr)
        return
    flags = _RESET_ON_FORK if attr.reset_on_fork else 0
    data = _LAYOUT.pack(_LAYOUT.size, attr.policy, flags, attr.nice, attr.priority, attr.slice_ns, 0, 0)
    try:
        _call(numbers[0], tid, ctypes.create_string_buffer(data, len(data)), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise
        _set_without_slice(tid, attr)


def get_attr(tid: int = 0) -> SchedAttr:
    """What the thread has; the slice is 0 where the kernel has none to tell. Raises OSError."""
    numbers = _NUMBERS.get(platform.machine())
    if numbers is not None:
        buffer = ctypes.create_string_buffer(_LAYOUT.size)
        with contextlib.suppress(OSError):
            _call(numbers[1], tid, buffer, _LAYOUT.size, 0)
            _, policy, flags, nice, priority, slice_ns, _, _ = _LAYOUT.unpack(buffer.raw)
            return SchedAttr(policy, nice, priority, slice_ns, bool(flags & _RESET_ON_FORK))
    policy = os.sched_getscheduler(tid)
    normal = policy & ~os.SCHED_RESET_ON_FORK
    nice = os.getpriority(os.PRIO_PROCESS, tid)
    priority = os.sched_getparam(tid).sched_priority
    return SchedAttr(normal, nice, priority, 0, bool(policy & os.SCHED_RESET_ON_FORK))


def _set_without_slice(tid: int, attr: SchedAttr) -> None:
    policy = attr.policy | (os.SCHED_RESET_ON_FORK if attr.reset_on_fork else 0)
    os.sched_setscheduler(tid, policy, os.sched_param(attr.priority))
    if attr.policy in (os.SCHED_OTHER, os.SCHED_BATCH):
        os.setpriority(os.PRIO_PROCESS, tid, attr.nice)


def _call(number: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
