"""Gives the latency path the real-time class while throughput engines compute, and keeps it to short work there.

While none computes there is nobody to go before, and the class would only starve whatever else the machine has to do: an
engine that starts, the supervisor, an operator's command.

Two bounds, beyond which a process leaves the class for some seconds:
- one piece of work. RLIMIT_RTTIME makes the kernel send SIGXCPU to a process one of whose real-time threads has computed
  so long without waiting for anything. Its handler is C's, which only writes a byte that wakes the guard: so a model
  that takes ten seconds is out of the class after the first hundredth of them, with its run still going on.
- its share. Who rests (rest.py) stays below it; who computes for long at a time may not.
"""

import logging
import os
import resource
import select
import signal
import threading
import time
from collections.abc import Callable

import msgspec

from appliance import events
from appliance.osutil import scheduling
from appliance.osutil.sched_attr import SchedAttr
from appliance.osutil.scheduling import Role, treatment

_log = logging.getLogger(__name__)

# Ticks of the kernel's clock decide, 1 to 10 ms apart. A small call's work is 1 ms; a batch of them 5.
_WORK_US_MAX = 20_000
_INTERVAL_SECONDS = 1.0
# So late does the latency path notice that a language model has begun to compute.
_LOOK_SECONDS = 0.25
# Of one core, more than rest.py leaves. A latency path that needs more is no longer one of short work.
_SHARE_MAX = 0.6
# Back into the class only well below, or a steady load would go in and out each second.
_SHARE_BACK = 0.5
# One that worked too long at a time stays out so long, the next time twice as long, and so on: a large message now and then
# costs a second, a model that is not fit for the class hardly ever gets in. Who was well-behaved for a while begins anew.
_REST_SECONDS = 1.0
_REST_SECONDS_MAX = 600.0
_FORGIVEN_SECONDS = 60.0


class Budget(msgspec.Struct):
    """Whether a process may be in the real-time class when it is wanted. Times are in seconds on one clock."""

    inside: bool = True
    _rest: float = _REST_SECONDS
    _out_until: float = 0.0
    _busy: bool = False

    def overrun(self, now: float) -> None:
        """It worked too long at a time."""
        if self.inside:
            if now > self._out_until + _FORGIVEN_SECONDS:
                self._rest = _REST_SECONDS
            self._out_until = now + self._rest
            self._rest = min(2 * self._rest, _REST_SECONDS_MAX)
        self.inside = False

    def used(self, now: float, share: float, contended: bool) -> None:
        """Since the last time it used so much of one core, ``contended`` by throughput engines."""
        self._busy = contended and share > (_SHARE_BACK if self._busy else _SHARE_MAX)
        self.inside = not self._busy and now >= self._out_until


class Guard:
    """Treats this process as its ``role`` asks, and watches it from then on.

    ``realtime``: allowed, and wanted while ``contended()``: while throughput engines compute. ``slices``: the kernel knows
    them.
    """

    def __init__(self, role: Role, contended: Callable[[], bool], *, realtime: bool, slices: bool) -> None:
        self._role: Role = role
        self._contended = contended
        self._realtime = realtime
        self._slices = slices
        self._budget = Budget()
        self._told = False
        self._wake, self._byte = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._now = self._wanted(contended=False)

    def start(self) -> None:
        """Called by the main thread, when all is loaded: what comes before is long work."""
        scheduling.apply(self._now)
        if self._realtime:
            # Without a handler the signal would end the process.
            signal.signal(signal.SIGXCPU, lambda *_: None)
            signal.set_wakeup_fd(self._byte, warn_on_full_buffer=False)
            self._limit_work()
        if self._realtime or self._role == "front_end":
            threading.Thread(target=self._watch, name="scheduling", daemon=True).start()

    def _wanted(self, contended: bool) -> SchedAttr:
        inside = self._realtime and contended and self._budget.inside
        return treatment(self._role, realtime=inside, slices=self._slices, contended=contended)

    def _watch(self) -> None:
        scheduling.apply(self._now)  # for this thread, where a new one does not inherit it
        seen, cpu = time.monotonic(), time.process_time()
        while True:
            ready, _, _ = select.select([self._wake], [], [], _LOOK_SECONDS)
            now = time.monotonic()
            why = "kept a core busy"
            if ready:
                os.read(self._wake, 64)
                self._budget.overrun(now)
                why = "worked for more than 20 ms at a time"
            elif now >= seen + _INTERVAL_SECONDS:
                used = time.process_time()
                self._budget.used(now, (used - cpu) / (now - seen), self._contended())
                seen, cpu = now, used
            self._move(self._contended(), why)

    def _move(self, contended: bool, why: str) -> None:
        wanted = self._wanted(contended)
        if wanted == self._now:
            return
        if wanted.policy == os.SCHED_RR:
            self._limit_work()
        elif self._now.policy == os.SCHED_RR and not self._budget.inside and not self._told:
            self._told = True
            _log.info("left the real-time class, which is for short work: it %s; more of this is not logged", why)
        try:
            scheduling.apply(wanted)
        except OSError as error:
            if not self._realtime:
                raise
            _log.warning(
                "no real-time class: the system refuses it (%s)", error.strerror, extra=events.PRIORITY_REFUSED.of()
            )
            self._realtime = False
            self._move(contended, why)
        else:
            self._now = wanted

    def _limit_work(self) -> None:
        """Each time anew: the kernel raises the limit by a second when it is reached."""
        _, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
        resource.setrlimit(resource.RLIMIT_RTTIME, (_WORK_US_MAX, hard))
