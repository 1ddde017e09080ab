"""Who may come in: counts the calls in hand, bounds them, and closes when the daemon drains.

The sync server gives each call a thread. If all threads were taken, calls would wait in a queue that nobody bounds and
the front-end's own sign of life could not run; so the last few threads only ever say RESOURCE_EXHAUSTED. A stream
holds its thread while it is idle, so streams are bounded apart.
"""

import threading

from appliance.errors import ResourceExhausted, Unavailable

_RESERVE = 4


class Gate:
    """Thread-safe."""

    def __init__(self, threads: int) -> None:
        self._calls_max = max(1, threads - _RESERVE)
        self._streams_max = max(1, threads // 2)
        self._condition = threading.Condition(threading.Lock())
        self._calls = 0
        self._streams = 0
        self._closed = False

    def enter(self) -> None:
        """Counts a call in; ``leave`` must follow. Raises Unavailable when closed, ResourceExhausted when full."""
        with self._condition:
            if self._closed:
                raise Unavailable("the daemon is stopping: try again soon or elsewhere", reason="DRAINING")
            if self._calls >= self._calls_max:
                raise ResourceExhausted(
                    f"the front-end has {self._calls} calls in hand, its bound is {self._calls_max} "
                    "(server.threads): try again later",
                    reason="CALLS_FULL",
                )
            self._calls += 1

    def leave(self) -> None:
        """The call has been answered."""
        with self._condition:
            self._calls -= 1
            if not self._calls:
                self._condition.notify_all()

    def enter_stream(self) -> None:
        """Counts an open ModelStreamInfer besides ``enter``; ``leave_stream`` must follow."""
        with self._condition:
            if self._streams >= self._streams_max:
                raise ResourceExhausted(
                    f"the front-end has {self._streams} open streams, its bound is {self._streams_max} "
                    "(half of server.threads): close some, or send several requests over one",
                    reason="STREAMS_FULL",
                )
            self._streams += 1

    def leave_stream(self) -> None:
        """The stream has ended."""
        with self._condition:
            self._streams -= 1

    @property
    def calls(self) -> int:
        """Calls in hand."""
        return self._calls

    @property
    def closed(self) -> bool:
        """Whether the daemon drains."""
        return self._closed

    def close(self) -> None:
        """Lets nobody in any more."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def wait_empty(self, seconds: float) -> bool:
        """Waits until no call is in hand, at most ``seconds``; returns whether that is so."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._calls, timeout=seconds)
