"""Tells the service manager how the daemon stands: from the supervisor's own loop, so that a hang of it is seen too."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from appliance import limits
from appliance.daemon.service_state import Facts, ServiceState
from appliance.osutil.notify import Notifier

# Fed so many times within the watchdog's period: one turn that comes late does no harm.
_FEEDS_A_PERIOD = 3


class Service:
    """``look`` finds out how the daemon stands; it is called from the loop that ``run`` turns in."""

    def __init__(self, notifier: Notifier, look: Callable[[], Facts]) -> None:
        self._notifier = notifier
        self._look = look
        self._state = ServiceState(watchdog=notifier.watchdog_usec > 0)
        self._changed = asyncio.Event()
        self._reloads = asyncio.Lock()
        self._stopping = False

    def nudge(self) -> None:
        """Something has changed: it is told at once, not within a second."""
        self._changed.set()

    async def run(self) -> None:
        """For ever, where there is a service manager that listens."""
        if not self._notifier.listened_to:
            return
        while not self._stopping:
            self._notifier.tell(self._state.lines(self._look()))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._interval())
            self._changed.clear()

    async def reload(self, work: Callable[[], Awaitable[str]]) -> None:
        """Does ``work``, which returns what isn't in force after it, and tells its beginning and its end."""
        async with self._reloads:
            self._notifier.tell(self._state.reloading(time.monotonic_ns()))
            self._notifier.tell(self._state.reloaded(await work()))
        self.nudge()

    def stopping(self, seconds: float) -> None:
        """The last that is told: the daemon stops, within so many seconds."""
        self._stopping = True
        self._notifier.tell(self._state.stopping(seconds))

    def _interval(self) -> float:
        """Seconds until the next look, when nothing changes before."""
        seconds = limits.beat_interval_ms / 1000
        usec = self._notifier.watchdog_usec
        return min(seconds, usec / 1_000_000 / _FEEDS_A_PERIOD) if usec else seconds
