"""All instances of one model version as one: a keeper for each engine process, and what they come to together.

The first instance runs the golden tests; the others start when it has passed. That proves the version once, and they
find what the first one left in the version's cache (engine_caches.py). Calls go to the instances that are ready; only
while there is none do they wait for one that is being started again.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.config import Config
from appliance.control import EngineRefused, Route
from appliance.questions import ModelVersion
from appliance.types import EngineStats, ModelSignature, ModelState
from appliance.worker.engine_keeper import EngineKeeper
from appliance.worker.engine_states import state_of_all
from appliance.worker.engine_stats import together
from appliance.worker.handover import Diversion
from appliance.worker.processors import Processors

_RUNS = (ModelState.LOADING, ModelState.READY, ModelState.RESTARTING)
_GIVEN_UP = (ModelState.FAILED, ModelState.QUARANTINED)


class EngineGroup:
    """One model version. ``changed`` is called after each change of an instance that others may see."""

    def __init__(
        self,
        model: ModelVersion,
        new_socket: Callable[[], Path],
        config: Config,
        changed: Callable[[], None],
        processors: Processors | None = None,
    ) -> None:
        """``new_socket()`` is the path of a socket that nobody has yet. Raises OSError when one cannot be made."""
        self.model = model
        self._new_socket = new_socket
        self._config = config
        self._changed = changed
        self._processors = processors
        self._members: list[EngineKeeper] = []
        self._runs: list[asyncio.Task[None]] = []
        # Of instances that were replaced.
        self._past = EngineStats()
        self._past_restarts = 0
        self._diversion = Diversion()
        self._settled = asyncio.Event()
        self._gone = asyncio.Event()
        try:
            for instance in range(model.spec.serving.instances):
                self._members.append(self._keeper(instance))
        except OSError:
            for member in self._members:
                member.close()
            raise

    def _keeper(self, instance: int) -> EngineKeeper:
        path, changed = self._new_socket(), self._member_changed
        return EngineKeeper(self.model, path, self._config, changed, instance, self._processors)

    def _member_changed(self) -> None:
        self._diversion.follow((member.state, member.socket) for member in self._members)
        self._changed()

    # --- what others see ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> ModelState:
        """See engine_states.state_of_all."""
        return state_of_all([member.state for member in self._members])

    @property
    def reason(self) -> str:
        """Why it is not ready; or of a version that is, which instances are not."""
        state = self.state
        if state is ModelState.READY:
            return "; ".join(f"{self._named(m)} is {m.state.value}: {m.reason}" for m in self._members if m.reason)
        member = next((m for m in self._members if m.state is state and m.reason), None)
        if member is None:
            return ""
        return f"{self._named(member)}: {member.reason}" if member.instance else member.reason

    def _named(self, member: EngineKeeper) -> str:
        return f"instance {member.instance + 1} of {len(self._members)}"

    @property
    def refusal(self) -> EngineRefused | None:
        """What an instance that was given up said."""
        return next((m.refusal for m in self._members if m.refusal and m.state in _GIVEN_UP), None)

    @property
    def signature(self) -> ModelSignature | None:
        """None until an instance has been loaded."""
        return self._loaded.signature

    @property
    def _loaded(self) -> EngineKeeper:
        return next((m for m in self._members if m.signature is not None), self._members[0])

    @property
    def sockets(self) -> frozenset[str]:
        """Of all instances, whatever their state."""
        return frozenset(member.socket.path for member in self._members)

    def route(self, active: bool) -> Route:
        """This version's row in the routing table."""
        ready = [m.route_socket for m in self._members if m.state is ModelState.READY]
        # Where none is ready, calls may wait for those that are soon to be.
        first, *more = ready or [m.route_socket for m in self._members if m.route_socket] or [""]
        route = self._loaded.route(active)
        return msgspec.structs.replace(
            route, state=self.state, socket=first, reason=self.reason, more_sockets=tuple(more)
        )

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes that run now."""
        return tuple(member.pid for member in self._members if member.pid)

    @property
    def uptime_ms(self) -> int:
        """Of the process that has run longest."""
        return max(member.uptime_ms for member in self._members)

    @property
    def stats(self) -> EngineStats:
        """Of all instances together: counters over all their processes, gauges of those that run."""
        return together([self._past, *(member.stats for member in self._members)])

    @property
    def restarts(self) -> int:
        """Of all instances."""
        return self._past_restarts + sum(member.restarts for member in self._members)

    @property
    def golden_passed(self) -> int:
        """How many golden tests the first instance passed."""
        return self._members[0].golden_passed

    async def settled(self) -> ModelState:
        """Waits until the first load of every instance has come to an end; of a trial that failed, until all ended."""
        await self._settled.wait()
        return self.state

    async def gone(self) -> None:
        """Waits until no process of this version is left, and none will be started."""
        await self._gone.wait()

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self, trial: bool) -> None:
        """Until drained or given up. ``trial``: golden tests are run, and an instance that cannot be loaded ends all."""
        first, *others = self._members
        try:
            self._begin(first, trial, golden=True)
            if await first.settled() in _GIVEN_UP:
                self._end(others)
            for member in others:
                self._begin(member, trial, golden=False)
            for member in others:
                await member.settled()
            if trial and any(member.state in _GIVEN_UP for member in self._members):
                self._end(self._members)
                await self._ended()
            self._settled.set()
            await self._ended()
        finally:
            self._settled.set()
            self._gone.set()

    def _begin(self, member: EngineKeeper, trial: bool, golden: bool) -> None:
        self._runs.append(asyncio.create_task(member.run(trial, golden)))

    def _end(self, members: list[EngineKeeper]) -> None:
        for member in members:
            if member.state in _RUNS:
                member.drain(0.0)

    async def _ended(self) -> None:
        while self._runs:
            done, _ = await asyncio.wait(self._runs, return_when=asyncio.FIRST_COMPLETED)
            self._runs = [run for run in self._runs if run not in done]
            for run in done:
                run.result()  # an exception of it ends the version

    async def mend(self) -> None:
        """Starts instances anew that were given up while others serve; returns when their load has come to an end."""
        for place, member in enumerate(self._members):
            if member.state in _GIVEN_UP and self.state is ModelState.READY:
                new = self._members[place] = self._keeper(member.instance)
                self._past = together([self._past, member.stats])
                self._past_restarts += member.restarts
                self._begin(new, trial=True, golden=False)
        for member in list(self._members):
            await member.settled()

    def drain(self, seconds: float | None = None) -> None:
        """Ends all instances after the calls that they have; nothing new must come any more. As EngineKeeper.drain."""
        for member in self._members:
            if member.state not in (ModelState.DRAINING, ModelState.STORED):
                member.drain(seconds)
