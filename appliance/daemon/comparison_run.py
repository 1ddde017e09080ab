"""One comparison while it runs, and what is done elsewhere because of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from appliance.comparison import Comparison
from appliance.daemon.comparison_rule import Engines, judge
from appliance.daemon.probation import Judgement, Seen, since
from appliance.questions import Progress
from appliance.versions import ModelVersion

Say = Callable[[Progress], None]
# (model, version): counts since its engines were started.
See = Callable[[str, str], Seen]


class Acts(NamedTuple):
    """What is done elsewhere.

    ``promote(model, version, probation_seconds)`` makes
    it the active one, ``condemn(model, version, reason)`` quarantines it; both raise ApplianceError. ``room(bytes)``:
    whether a model of that size may be loaded besides what is.
    """

    see: See
    promote: Callable[[str, str, float, Say], Awaitable[object]]
    condemn: Callable[[ModelVersion, str], Awaitable[None]]
    room: Callable[[int], bool]


class Run:
    """A comparison that runs, and what both engines had done before."""

    def __init__(self, record: Comparison, model: ModelVersion, see: See, began_ns: int) -> None:
        self.record = record
        self.model = model
        self.began_ns = began_ns
        self.saved_ns = began_ns
        self.nudged = asyncio.Event()
        self.ended = asyncio.Event()
        # The active version changes because of this comparison.
        self.promoting = False
        self.task: asyncio.Task[None] | None = None
        self._before = see(record.name, record.active), see(record.name, record.version)

    def seconds(self, now_ns: int) -> float:
        """How long it has been compared."""
        return (now_ns - self.began_ns) / 1e9

    def look(self, see: See, now_ns: int) -> Judgement:
        """What follows from all that is known now."""
        record = self.record
        active, candidate = see(record.name, record.active), see(record.name, record.version)
        before, start = self._before
        restarts = candidate.restarts - start.restarts
        seen = candidate._replace(calls=since(start.calls, candidate.calls), restarts=restarts)
        counted = Engines(since(before.calls, active.calls), seen)
        return judge(record.plan, record.tally, counted, self.seconds(now_ns))
