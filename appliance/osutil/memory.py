"""How glibc's allocator treats tensors: keep their memory for the next one instead of giving it back to the kernel.

By default every block above 128 KiB is mapped and unmapped anew, so a tensor of 600 kB costs 150 page faults each time
it is received, sent or joined: a third of the throughput of such calls (serve/README.md).
"""

import ctypes

# malloc.h; see mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

# The largest that glibc takes (HEAP_MAX_SIZE / 2): larger blocks are rare, and still go back at once.
_MMAP_THRESHOLD_BYTES = 32 * 1024 * 1024
# What an idle process may keep.
_TRIM_THRESHOLD_BYTES = 64 * 1024 * 1024
# Each arena keeps memory of its own, and glibc would make eight for each core.
_ARENAS_MAX = 2


def keep_freed_memory() -> bool:
    """Called before any thread is there. False where the C library is not glibc: all works, more slowly."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES),
        (_M_ARENA_MAX, _ARENAS_MAX),
    )
    return all(mallopt(option, value) == 1 for option, value in settings)
