"""Stops a decode that nobody waits for any more, or that takes longer than a step may, without Python in its way.

llama.cpp asks a C function between two nodes of the graph whether to go on: some 500 times a step, which costs 0.5 ms
of 8 when that function is Python's. Here it is the C library's strlen on a buffer of our own: empty means go on, one
character means stop. A thread that looks at the clock ten times a second writes the character; it touches nothing else.
"""

import ctypes
import threading
from typing import Any

from appliance.clock import Clock
from appliance.engine.llama.native import C

_LOOKS_PER_SECOND = 10


class StepWatch:
    """``arm`` before a decode, ``disarm`` after it. ``callback`` and ``data`` are for llama_set_abort_callback."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flag = ctypes.create_string_buffer(2)
        self._libc = ctypes.CDLL(None)
        self.callback: Any = ctypes.cast(self._libc.strlen, C.ggml_abort_callback)
        self.data = ctypes.cast(self._flag, ctypes.c_void_p)
        self._stop_at_ns = 0
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def arm(self, stop_at_ns: int) -> None:
        """The decode that begins now may last until ``stop_at_ns`` on the clock; 0: as long as it likes."""
        self._flag[0] = b"\0"
        self._stop_at_ns = stop_at_ns
        if self._thread is None:
            self._thread = threading.Thread(target=self._look_on, name="step-watch", daemon=True)
            self._thread.start()

    def disarm(self) -> bool:
        """The decode has ended. Whether it was told to stop."""
        self._stop_at_ns = 0
        stopped = self._flag[0] != b"\0"
        self._flag[0] = b"\0"
        return stopped

    def look(self) -> None:
        """Raises the flag when it is time."""
        stop_at_ns = self._stop_at_ns
        due = stop_at_ns and self._clock.monotonic_ns() >= stop_at_ns
        if due and self._stop_at_ns == stop_at_ns:  # or the next step, armed meanwhile, would pay for this one
            self._flag[0] = b"x"

    def _look_on(self) -> None:
        while not self._closed.wait(1 / _LOOKS_PER_SECOND):
            self.look()

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        if self._thread:
            self._thread.join()
            self._thread = None
