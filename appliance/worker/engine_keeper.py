"""Keeps the engine of one model version running: starts it, watches it, starts it again, or gives up on it.

The keeper owns the engine's listening socket, and each engine process inherits it. So when an engine dies, calls that
come before the next one is up wait in the socket's backlog instead of failing; only calls that the dead process had
already taken are lost.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from appliance import limits
from appliance.clock import monotonic_ms
from appliance.config import Config
from appliance.control import Beat, Drain, EngineReady, EngineRefused, FromChild, Route, StartEngine
from appliance.questions import ModelVersion
from appliance.types import EngineStats, ModelKind, ModelSignature, ModelState
from appliance.worker.child_link import ChildLink, describe_end
from appliance.worker.engine_caches import EngineCaches
from appliance.worker.engine_states import EngineEvent, advance
from appliance.worker.engine_stats import added, folded
from appliance.worker.restarts import RestartPolicy

_log = logging.getLogger(__name__)
_MODULE = "appliance.worker.engine_process"
_BACKLOG = 1024
_STOP_GRACE_SECONDS = 2.0


class EngineKeeper:
    """One model version. ``changed`` is called after each change of ``state`` or of whether calls are taken."""

    def __init__(self, model: ModelVersion, socket_path: Path, config: Config, changed: Callable[[], None]) -> None:
        """Raises OSError when the socket cannot be made."""
        self.model = model
        self.state = ModelState.LOADING
        self.reason = ""
        self.refusal: EngineRefused | None = None
        self.signature: ModelSignature | None = None
        self.restarts = 0
        self.golden_passed = 0
        self._config = config
        self._changed = changed
        self._path = socket_path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(socket_path))
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._link: ChildLink | None = None
        self._policy = RestartPolicy(limits.restarts_in_window_max)
        self._drain_seconds = config.server.drain_seconds
        self._draining = asyncio.Event()
        self._settled = asyncio.Event()
        self._gone = asyncio.Event()
        self._holds_calls = True
        self._serving = False
        self._on_trial = False
        self._past = EngineStats()
        self._now = EngineStats()

    # --- what others see ---------------------------------------------------------------------------------------------

    @property
    def route_socket(self) -> str:
        """Where front-ends send calls; empty while that would be in vain."""
        takes = self.state is ModelState.READY or (self.state is ModelState.RESTARTING and self._holds_calls)
        return str(self._path) if takes else ""

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

    async def run(self, trial: bool) -> None:
        """Until drained or given up. ``trial``: the first load runs the golden tests, and a death in it is final."""
        try:
            while not self._draining.is_set():
                if not await self._one_life(trial and not self._settled.is_set()):
                    break
        finally:
            if self.state is ModelState.DRAINING:
                self._move(EngineEvent.ENDED)
            self._close()

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
            link = self._link = await ChildLink.start(_MODULE, self._order(trial), (self._listener.fileno(),))
        except OSError as error:  # no process or no memory left: there may be again
            if self._draining.is_set():
                return False
            return await self._after_death(f"could not be started: {error.strerror}", 0, trial)
        _log.info("engine of %s:%s started, pid %d", self.model.name, self.model.version, link.pid)
        watch = asyncio.create_task(self._watch(link))
        stop = asyncio.create_task(self._stop_when_drained(link))
        try:
            async for message in link.messages():
                self._hear(message)
        finally:
            link.kill()
        status = await link.ended()
        for task in (watch, stop):
            task.cancel()
        up_ms = monotonic_ms() - link.started_ms
        self._link, self._serving = None, False
        self._past, self._now = folded(self._past, self._now), EngineStats()
        if self._draining.is_set() or self.state is ModelState.FAILED:
            return False
        return await self._after_death(describe_end(status), up_ms, trial)

    async def _after_death(self, how: str, up_ms: int, trial: bool) -> bool:
        name = f"{self.model.name}:{self.model.version}"
        self.reason = self.refusal.message if self.refusal else f"its engine died ({how})"
        decision = self._policy.died(monotonic_ms(), up_ms)
        if (trial and self.state is ModelState.LOADING) or decision.give_up:
            _log.error("engine of %s died (%s); it is not started again", name, how)
            self._move(EngineEvent.BUDGET_SPENT)
            return False
        self.restarts += 1
        _log.warning("engine of %s died (%s) after %d ms; next start in %d ms", name, how, up_ms, decision.delay_ms)
        self._move(EngineEvent.DIED)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._draining.wait(), decision.delay_ms / 1000)
        return not self._draining.is_set()

    def _order(self, trial: bool) -> StartEngine:
        return StartEngine(
            spec=self.model.spec,
            folder=self.model.folder,
            listener_fd=self._listener.fileno(),
            threads=self._config.engines.threads,
            queue_max=self.model.spec.limits.max_queue or self._config.engines.queue_max,
            run_golden=trial,
            log=self._config.log,
            cache_dir=str(EngineCaches(self._config.state_dir).folder(self.model.digest)),
            digest=self.model.digest,
        )

    def _hear(self, message: FromChild) -> None:
        match message:
            case Beat(stats=stats) if stats is not None:
                self._now = stats
            case EngineReady():
                self.signature = message.signature
                self.golden_passed = message.golden_passed
                self.reason = ""
                self._serving = True
                _log.info("%s:%s is ready after %d ms", self.model.name, self.model.version, message.load_ms)
                self._move(EngineEvent.READY)
            case EngineRefused():
                self.reason = message.message
                self.refusal = message
                _log.error("%s:%s cannot be served: %s", self.model.name, self.model.version, message.message)
                # It has passed a trial before: what is wrong now (memory, say) may pass, so its end counts as a death.
                if self._on_trial:
                    self._move(EngineEvent.REFUSED)
            case _:
                _log.warning("unexpected message from an engine: %s", type(message).__name__)

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
                _log.error("engine of %s has been silent for %.0f s: killed", self.model.name, bound)
                link.kill()
            if self.state is ModelState.RESTARTING and now > hold_until:
                self._stop_holding()

    def _stop_holding(self) -> None:
        if self._holds_calls:
            self._holds_calls = False
            self._changed()
        # Again and again: a front-end that has not yet heard of it may send one more call.
        self._shed()

    def _shed(self) -> None:
        """Closes the calls that wait in the backlog: their front-ends answer UNAVAILABLE."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()

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

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._shed()
        self._listener.close()
        self._settled.set()
        self._gone.set()
