"""Watches versions on probation and acts when probation.py has come to a verdict.

Nothing here has to survive: what the previous version did, and until when the new one is watched, is part of Desired. After
a restart of the daemon the watch goes on, and what the new version did before it is not known any more.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from appliance import events, limits
from appliance.clock import Clock, SystemClock
from appliance.daemon.events import tell
from appliance.daemon.probation import Judgement, Seen, Verdict, judge, since
from appliance.errors import ApplianceError, Code
from appliance.osutil import memory_room
from appliance.osutil.memory_bound import reserve_bytes
from appliance.osutil.memory_room import Room
from appliance.versions import Desired, OnProbation

_log = logging.getLogger(__name__)

# What is done with (model, version, reason). Raises ApplianceError or OSError when it can't be.
Act = Callable[[str, str, str], Awaitable[None]]


class TrialWatch:
    """One watch for each model whose active version is on probation. Used from the event loop only."""

    def __init__(
        self, see: Callable[[str, str], Seen], acts: Mapping[Verdict, Act], give_up: Act, clock: Clock | None = None
    ) -> None:
        """``see(model, version)`` tells counts since the engines were started; ``give_up`` ends a probation undecided."""
        self._see = see
        self._acts = acts
        self._give_up = give_up
        self._clock = clock or SystemClock()
        self._trials: dict[str, _Trial] = {}

    def follow(self, desired: Desired) -> None:
        """Begins, goes on, or ends, as it was written down what should run of a model."""
        trial = self._trials.get(desired.name)
        probation = desired.probation
        if trial is not None and probation is not None and trial.is_for(desired.active, probation):
            return
        self._end(desired.name)
        if probation is not None:
            left = (probation.until_ms - self._clock.wall_ns() / 1e6) / 1000
            # A clock that was set back must not make it last for ever.
            until_ns = self._clock.monotonic_ns() + int(max(0.0, min(left, probation.seconds)) * 1e9)
            trial = _Trial(desired.name, desired.active, probation, until_ns, self._see(desired.name, desired.active))
            trial.task = asyncio.create_task(self._watch(trial))
            self._trials[desired.name] = trial

    def nudge(self, name: str, version: str) -> bool:
        """Something became of the version's engines: looks now. Whether the version is on probation at all."""
        trial = self._trials.get(name)
        if trial is None or trial.version != version:
            return False
        trial.nudged.set()
        return True

    def stop(self) -> None:
        """Ends all watches; what is on probation remains so."""
        for name in list(self._trials):
            self._end(name)

    def _end(self, name: str) -> None:
        trial = self._trials.pop(name, None)
        # It may be the watch itself that has just ended the probation.
        if trial is not None and trial.task is not None and trial.task is not asyncio.current_task():
            trial.task.cancel()

    async def _watch(self, trial: "_Trial") -> None:
        while True:
            trial.nudged.clear()
            judgement = self._look(trial)
            if judgement.verdict is not Verdict.WATCHING and await self._act(trial, judgement):
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(trial.nudged.wait(), limits.probation_look_ms / 1000)

    def _look(self, trial: "_Trial") -> Judgement:
        seen = self._see(trial.name, trial.version)
        start = trial.start
        seen = seen._replace(calls=since(start.calls, seen.calls), restarts=seen.restarts - start.restarts)
        left = (trial.until_ns - self._clock.monotonic_ns()) / 1e9
        return judge(trial.probation.before, seen, trial.probation.seconds, left)

    async def _act(self, trial: "_Trial", judgement: Judgement) -> bool:
        """Whether that ended the watch."""
        name, version = trial.name, trial.version
        try:
            await self._acts[judgement.verdict](name, version, judgement.reason)
        except (ApplianceError, OSError) as error:
            # What is said of an error of the machine's stays in its own words here: this goes to the log only.
            why = error.message if isinstance(error, ApplianceError) else error.strerror or type(error).__name__
            if isinstance(error, OSError) or error.code is Code.UNAVAILABLE:
                if why != trial.obstacle:
                    facts = events.MODEL_VERDICT_WAITS.of(name, version)
                    _log.warning(
                        "%s:%s: the %s is tried again soon: %s",
                        name,
                        version,
                        judgement.verdict.value,
                        why,
                        extra=facts,
                    )
                trial.obstacle = why
                return False
            text = f"should be rolled back ({judgement.reason}), but it stays: {why}"
            tell(events.MODEL_ROLLBACK_FAILED, name, version, text)
            await self._give_up(name, version, judgement.reason)
        return True


class _Trial:
    """One version on probation; ``start`` is what it had done before."""

    def __init__(self, name: str, version: str, probation: OnProbation, until_ns: int, start: Seen) -> None:
        self.name = name
        self.version = version
        self.probation = probation
        self.until_ns = until_ns
        self.start = start
        self.nudged = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.obstacle = ""

    def is_for(self, version: str, probation: OnProbation) -> bool:
        """Whether this is the watch of that."""
        return (self.version, self.probation.until_ms) == (version, probation.until_ms)


def room_beside(nbytes: int, room: Callable[[], Room | None] = memory_room.room) -> bool:
    """Whether the box has memory for a further model whose files have so many bytes."""
    found = room()
    return found is None or found.available >= reserve_bytes(found.total) + nbytes


def room_for_previous(room: Callable[[], Room | None] = memory_room.room) -> bool:
    """Whether the box has memory to keep the previous version loaded, now that the new one is."""
    found = room()
    return found is None or found.available >= reserve_bytes(found.total) + limits.probation_room_bytes_min
