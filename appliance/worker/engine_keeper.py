"""Keeps one instance of a model version running: starts its engine, watches it, starts it again, or gives up on it.

The keeper owns the engine's listening socket, and each engine process inherits it. So when an engine dies, calls that
come before the next one is up wait in the socket's backlog instead of failing; only calls that the dead process had
already taken are lost.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from appliance import events, limits
from appliance.clock import monotonic_ms
from appliance.config import Config
from appliance.control import Beat, Drain, EngineReady, EngineRefused, FromChild, Route, StartEngine
from appliance.questions import ModelVersion
from appliance.types import EngineStats, ModelKind, ModelSignature, ModelState
from appliance.worker.child_link import ChildLink, describe_end
from appliance.worker.engine_caches import EngineCaches
from appliance.worker.engine_socket import EngineSocket
from appliance.worker.engine_states import EngineEvent, advance
from appliance.worker.engine_stats import added, folded
from appliance.worker.memory_watch import ENGINES, Watched
from appliance.worker.processors import Processors, Seat
from appliance.worker.restarts import RestartPolicy

_log = logging.getLogger(__name__)
_MODULE = "appliance.worker.engine_process"
_STOP_GRACE_SECONDS = 2.0


class EngineKeeper:
    """``changed`` is called after each change of ``state`` or of whether calls are taken."""

    def __init__(
        self,
        model: ModelVersion,
        socket_path: Path,
        config: Config,
        changed: Callable[[], None],
        instance: int = 0,
        processors: Processors | None = None,
    ) -> None:
        """``instance`` counts from 0. Raises OSError when the socket cannot be made."""
        self.model = model
        self.instance = instance
        self.state = ModelState.LOADING
        self.reason = ""
        self.refusal: EngineRefused | None = None
        self.signature: ModelSignature | None = None
        self.restarts = 0
        self.golden_passed = 0
        self._config = config
        self._changed = changed
        self.socket = EngineSocket(socket_path)
        self._processors = processors or Processors()
        self._seat = self._processors.seat(model.spec, instance, config.engines.threads, model.size_bytes)
        self._link: ChildLink | None = None
        self._memory: Watched | None = None
        self._policy = RestartPolicy(limits.restarts_in_window_max)
        self._drain_seconds = config.server.drain_seconds
        self._draining = asyncio.Event()
        self._settled = asyncio.Event()
        self._gone = asyncio.Event()
        self._holds_calls = True
        self._serving = False
        self._on_trial = False
        self._golden = True
        self._past = EngineStats()
        self._now = EngineStats()

    # --- what others see ---------------------------------------------------------------------------------------------

    @property
    def route_socket(self) -> str:
        """Where front-ends send calls; empty while that would be in vain."""
        takes = self.state is ModelState.READY or (self.state is ModelState.RESTARTING and self._holds_calls)
        return self.socket.path if takes else ""

    def route(self, active: bool) -> Route:
        """This engine's row in the routing table."""
        model = self.model
        bound = model.spec.limits.max_queue or self._config.engines.queue_max
        if self.signature is not None and self.signature.kind is ModelKind.LANGUAGE:
            bound = 0  # its calls run together: only the engine knows which of them wait, and for how long
        return Route(
            model.name, model.version, self.state, active, self.route_socket, self.signature, self.reason, bound
        )

    @property
    def pid(self) -> int:
        """0 while no process runs."""
        return self._link.pid if self._link else 0

    @property
    def uptime_ms(self) -> int:
        """Of the process that runs now."""
        return monotonic_ms() - self._link.started_ms if self._link else 0

    @property
    def stats(self) -> EngineStats:
        """Counters over all the processes of this version; gauges of the one that runs."""
        return added(self._past, self._now)

    async def settled(self) -> ModelState:
        """Waits until the first load has come to an end: READY, FAILED or QUARANTINED."""
        await self._settled.wait()
        return self.state

    async def gone(self) -> None:
        """Waits until no process of this engine is left, and none will be started."""
        await self._gone.wait()

    # --- life --------------------------------------------------------------------------------------------------------

    async def run(self, trial: bool, golden: bool = True) -> None:
        """Until drained or given up. ``trial``: the first load runs the ``golden`` tests, and a death in it is final."""
        self._golden = golden
        try:
            while not self._draining.is_set():
                if not await self._one_life(trial and not self._settled.is_set()):
                    break
        finally:
            if self.state is ModelState.DRAINING:
                self._move(EngineEvent.ENDED)
            self.close()

    def drain(self, seconds: float | None = None) -> None:
        """Ends the engine after the calls that it has; nothing new must come any more.

        ``seconds``: how long these calls may take; the configuration's server.drain_seconds when not given.
        """
        if seconds is not None:
            self._drain_seconds = seconds
        self._move(EngineEvent.DRAIN)
        self._draining.set()

    async def _one_life(self, trial: bool) -> bool:
        """Starts a process and waits for its end; False when there is to be no next one."""
        self._on_trial, self.refusal = trial, None
        try:
            link = self._link = await self._start(trial)
        except OSError as error:  # no process or no memory left: there may be again
            if self._draining.is_set():
                return False
            return await self._after_death(f"could not be started: {error.strerror}", 0, trial)
        _log.info("engine of %s:%s started, pid %d", self.model.name, self.model.version, link.pid)
        memory = self._memory = ENGINES.add(link.pid, self.model.spec.limits.memory_mib, link.kill)
        watch = asyncio.create_task(self._watch(link))
        stop = asyncio.create_task(self._stop_when_drained(link))
        try:
            async for message in link.messages():
                self._hear(message)
        finally:
            link.kill()
            ENGINES.remove(memory)
        status = await link.ended()
        for task in (watch, stop):
            task.cancel()
        up_ms = monotonic_ms() - link.started_ms
        self._link, self._serving = None, False
        self.socket.end_life()
        self._past, self._now = folded(self._past, self._now), EngineStats()
        if self._draining.is_set() or self.state is ModelState.FAILED:
            return False
        return await self._after_death(memory.verdict or describe_end(status), up_ms, trial)

    async def _start(self, trial: bool) -> ChildLink:
        theirs = self.socket.new_life().theirs
        order = self._order(trial, theirs.fileno())
        with theirs:
            fds = (order.listener_fd, order.handover_fd, *self._processors.pass_fds)
            return await ChildLink.start(_MODULE, order, fds)

    async def _after_death(self, how: str, up_ms: int, trial: bool) -> bool:
        name = f"{self.model.name}:{self.model.version}"
        self.reason = self.refusal.message if self.refusal else f"its engine died ({how})"
        decision = self._policy.died(monotonic_ms(), up_ms)
        if (trial and self.state is ModelState.LOADING) or decision.give_up:
            facts = events.ENGINE_GIVEN_UP.of(self.model.name, self.model.version)
            _log.error("engine of %s died (%s); it is not started again", name, how, extra=facts)
            self._move(EngineEvent.BUDGET_SPENT)
            return False
        self.restarts += 1
        facts = events.ENGINE_DIED.of(self.model.name, self.model.version)
        _log.warning(
            "engine of %s died (%s) after %d ms; next start in %d ms", name, how, up_ms, decision.delay_ms, extra=facts
        )
        self._move(EngineEvent.DIED)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._draining.wait(), decision.delay_ms / 1000)
        return not self._draining.is_set()

    def _order(self, trial: bool, handover_fd: int) -> StartEngine:
        order = StartEngine(
            spec=self.model.spec,
            folder=self.model.folder,
            listener_fd=self.socket.listener.fileno(),
            queue_max=self.model.spec.limits.max_queue or self._config.engines.queue_max,
            run_golden=trial and self._golden,
            log=self._config.log,
            cache_dir=str(EngineCaches(self._config.state_dir).folder(self.model.digest)),
            digest=self.model.digest,
            providers=self._config.engines.providers,
            handover_fd=handover_fd,
        )
        return self._processors.seated(order, self._seat)

    def _hear(self, message: FromChild) -> None:
        match message:
            case Beat(stats=stats) if stats is not None:
                self._now = stats
            case EngineReady():
                self.signature = message.signature
                self.golden_passed = message.golden_passed
                self.reason = ""
                self._serving = True
                if self._memory is not None:
                    self._memory.loaded()
                facts = events.MODEL_READY.of(self.model.name, self.model.version)
                _log.info(
                    "%s:%s is ready after %d ms", self.model.name, self.model.version, message.load_ms, extra=facts
                )
                self._move(EngineEvent.READY)
            case EngineRefused():
                self.reason = message.message
                self.refusal = message
                refused = events.MODEL_MEMORY_REFUSED if message.reason == "MODEL_MEMORY" else events.MODEL_LOAD_FAILED
                _log.error(
                    "%s:%s cannot be served: %s",
                    self.model.name,
                    self.model.version,
                    message.message,
                    extra=refused.of(self.model.name, self.model.version, message.reason),
                )
                # It has passed a trial before: what is wrong now (memory, say) may pass, so its end counts as a death.
                if self._on_trial:
                    self._move(EngineEvent.REFUSED)
            case _:
                _log.warning(
                    "unexpected message from an engine: %s", type(message).__name__, extra=events.INTERNAL_FAULT.of()
                )

    async def _watch(self, link: ChildLink) -> None:
        """Kills an engine whose loop no longer turns, and lets waiting calls go when the restart takes too long."""
        hold_until = link.started_ms + limits.engine_hold_ms_max
        while True:
            await asyncio.sleep(limits.beat_interval_ms / 1000)
            now = monotonic_ms()
            serves = self.state in (ModelState.READY, ModelState.DRAINING)
            engines = self._config.engines
            bound = engines.step_seconds_max if serves else engines.load_seconds_max
            # A step may begin a whole beat after the last sign of life.
            if now - link.heard_ms > bound * 1000 + limits.beat_interval_ms:
                facts = events.ENGINE_HUNG.of(self.model.name, self.model.version)
                _log.error("engine of %s has been silent for %.0f s: killed", self.model.name, bound, extra=facts)
                link.kill()
            if self.state is ModelState.RESTARTING and now > hold_until:
                self._stop_holding()

    def _stop_holding(self) -> None:
        if self._holds_calls:
            self._holds_calls = False
            self._changed()
        # Again and again: a front-end that has not yet heard of it may send one more call.
        self.socket.shed()

    async def _stop_when_drained(self, link: ChildLink) -> None:
        await self._draining.wait()
        link.send(Drain(self._drain_seconds))
        if not self._serving:  # it still loads: it doesn't listen yet, and has no call to lose
            link.kill()
        await asyncio.sleep(self._drain_seconds + _STOP_GRACE_SECONDS)
        link.kill()

    def _move(self, event: EngineEvent) -> None:
        before, self.state = self.state, advance(self.state, event)
        if self.state is ModelState.READY:
            self._holds_calls = True
        if self.state in (ModelState.READY, ModelState.FAILED, ModelState.QUARANTINED, ModelState.STORED):
            self._settled.set()
        if self.state is not before:
            self._changed()

    def close(self) -> None:
        """Gives the socket up; for a keeper that has not run, and will not."""
        self.socket.close()
        self._processors.give_back(self._seat)
        self._seat = Seat()
        self._settled.set()
        self._gone.set()
