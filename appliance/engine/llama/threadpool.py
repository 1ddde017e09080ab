"""Compute threads that stay: ggml would otherwise start and end its threads with every step.

A new thread is put on whatever core is idle at that moment, and where a front-end has just woken up, that may be the
core of the thread that it is going to work with. Threads that stay keep their core; between two steps they poll for
some 3 ms before they sleep. All contexts of a process compute one after the other, so one pool is enough for them.
"""

import ctypes
import os
from functools import cache
from typing import Any

from appliance.engine.llama.backend import new_threadpool
from appliance.engine.llama.native import C, expect

_THREADS_MAX = 512  # GGML_MAX_N_THREADS in ggml.h
# From 0 (sleep at once) to 100. Measured (two cores): after the last step ggml's own 50 burns 114 ms of a core that front-ends and
# other models could use, 2 burns 3; steps of 1 token take as long with either, some 8 % longer with 0 (worker/README.md).
_POLL = 2


class _Params(ctypes.Structure):
    """ggml_threadpool_params in ggml.h."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * _THREADS_MAX),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


def attach_threads(context: Any, threads: int) -> None:
    """Lets ``context``, a llama_context, compute with ``threads`` threads, of which the caller of a decode is one."""
    if 1 < threads <= _THREADS_MAX:
        attach = C._lib.llama_attach_threadpool
        attach.argtypes, attach.restype = [ctypes.c_void_p] * 3, None
        pool = _pool(threads)
        attach(context, pool, pool)


@cache
def _pool(threads: int) -> Any:
    new = new_threadpool()
    new.argtypes, new.restype = [ctypes.POINTER(_Params)], ctypes.c_void_p
    params = _Params(n_threads=threads, poll=_POLL)
    cores = os.sched_getaffinity(0)
    if len(cores) == threads and max(cores) < _THREADS_MAX:
        params.strict_cpu = True
        for core in cores:
            params.cpumask[core] = True
    return expect(new(ctypes.byref(params)), "thread pool")
