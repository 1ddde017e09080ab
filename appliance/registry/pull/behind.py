"""Work that a download leaves to a thread of its own while it reads on: syncing what is written.

fdatasync(2) lets go of the interpreter's lock; a slow disk holds the line up only when it is a whole step behind.
"""

import queue
import threading
from collections.abc import Callable

Step = Callable[[], object]


class Behind:
    """Steps, one after another, in the order of ``do``. At most ``ahead`` of them wait, so what they hold is bounded.

    For one thread, which closes it. What a step raises ends all: the steps behind it are left out, and the next call
    of ``do`` or ``settle`` raises it.
    """

    def __init__(self, name: str, ahead: int) -> None:
        self._name = name
        self._steps: queue.Queue[Step | None] = queue.Queue(ahead)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether a step has raised; after ``close`` nothing changes that any more."""
        return self._failure is not None

    def do(self, step: Step) -> None:
        """Returns as soon as there is a place for it."""
        self._check()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._steps.put(step)

    def settle(self) -> None:
        """Returns when all steps are done."""
        self._steps.join()
        self._check()

    def close(self) -> None:
        """Waits for what has begun, whatever becomes of it. Before that, nothing that a step uses may be closed."""
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join()
            self._thread = None

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (step := self._steps.get()) is not None:
            try:
                if self._failure is None:
                    step()
            except BaseException as error:  # the thread of the download raises it
                self._failure = error
            finally:
                self._steps.task_done()
