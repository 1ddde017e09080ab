"""A thread that waits for the network, so that the work loop never does: one errand at a time, and a wake-up at its end."""

import os
import queue
import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

Result = TypeVar("Result")


class Outcome(NamedTuple, Generic[Result]):
    """How an errand ended: with a ``result``, or with an ``error``."""

    result: Result | None
    error: BaseException | None


class Courier(Generic[Result]):
    """``begin`` and ``take`` from one thread. ``fd`` is readable while an outcome is there."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._orders: queue.SimpleQueue[Callable[[], Result]] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome[Result]] = queue.SimpleQueue()
        self._busy = False
        threading.Thread(target=self._run, name="courier", daemon=True).start()

    @property
    def busy(self) -> bool:
        """An errand has begun, and its outcome has not been taken."""
        return self._busy

    def begin(self, errand: Callable[[], Result]) -> None:
        """Sends it off. Only one at a time."""
        if self._busy:
            raise RuntimeError("the courier is under way")
        self._busy = True
        self._orders.put(errand)

    def take(self) -> Outcome[Result] | None:
        """The outcome, if the errand has ended."""
        try:
            # Written after the outcome was put: the other way round, an outcome could be there before its wake-up.
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return None
        outcome = self._outcomes.get()
        self._busy = False
        return outcome

    def _run(self) -> None:
        while True:
            errand = self._orders.get()
            try:
                outcome: Outcome[Result] = Outcome(errand(), None)
            except BaseException as error:
                outcome = Outcome(None, error)
            self._outcomes.put(outcome)
            os.eventfd_write(self.fd, 1)
