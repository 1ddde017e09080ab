"""Work for a pool of threads on a machine that may have no further thread to give."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def submit(pool: ThreadPoolExecutor, work: Callable[..., object], *arguments: Any) -> None:
    """Queues ``work``. Raises RuntimeError only when no thread of the pool will ever take it.

    ThreadPoolExecutor queues first and starts a thread then: where that fails, the threads that are there still do it.
    """
    try:
        pool.submit(work, *arguments)
    except RuntimeError:
        if not pool._threads:
            raise
