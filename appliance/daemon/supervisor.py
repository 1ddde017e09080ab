"""The supervisor: starts the daemon's parts in order, answers operators, and stops the parts in reverse."""

import asyncio
import logging
import signal
from pathlib import Path

from appliance import events
from appliance.clock import monotonic_ms
from appliance.comparison import AskBeginComparison, AskComparison, AskEndComparison
from appliance.config import Config, TlsConfig
from appliance.daemon import store_care
from appliance.daemon.front_ends import FrontEnds, Tell
from appliance.daemon.models import Models
from appliance.daemon.reconfigure import Reconfigure
from appliance.daemon.regions import Regions
from appliance.daemon.service import Service
from appliance.daemon.service_state import Facts, silent
from appliance.daemon.status import Counters, daemon_status, version_status
from appliance.daemon.sync_link import SyncLink
from appliance.daemon.updates import Updates
from appliance.errors import ApplianceError, FailedPrecondition
from appliance.logs import configure
from appliance.osutil.notify import Notifier
from appliance.questions import (
    Answer,
    AskActivate,
    AskAdd,
    AskDeactivate,
    AskInspect,
    AskRegister,
    AskRemove,
    AskRollback,
    AskStatus,
    AskUnregister,
    Nothing,
    Question,
    VersionAnswer,
    VersionStatus,
)
from appliance.store_questions import AskCheckStore, AskCollectGarbage, AskRepairStore
from appliance.sync_questions import AskPlan, AskSync, AskTrust, AskTrustClock, AskVisit
from appliance.worker.child_keeper import ChildKeeper
from appliance.worker.processors import find_processors

_log = logging.getLogger(__name__)
_STOP_GRACE_SECONDS = 2.0


class Supervisor:
    """One run of the daemon."""

    def __init__(
        self, config: Config, sockets: Path, notifier: Notifier | None = None, reconfigure: Reconfigure | None = None
    ) -> None:
        """``reconfigure``: knows what a reload finds; None: the configuration stays as it is, only files are read anew."""
        self._config = config
        self._reconfigure = reconfigure or Reconfigure(config, config, lambda: config)
        self._started_ms = monotonic_ms()
        self._counters = Counters()
        self._sync = SyncLink(config)
        processors = find_processors(config)
        self._models = Models(
            config, self._sync, sockets, processors, lambda key: self._counters.lost.get(key, 0), self._sync.allows
        )
        self._front_ends = FrontEnds(config, self._answer, self._counters.add, processors)
        self._front_ends.compared = self._models.comparisons.counted
        self._regions = Regions(self._front_ends.publish_regions)
        self._addresses: tuple[str, ...] = ()
        self._stop = asyncio.Event()
        self._service = Service(notifier or Notifier(None), self._facts)
        self._front_ends.published = self._service.nudge
        self._reloads: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until a signal asks to stop. Raises FailedPrecondition when the daemon cannot listen."""
        self._listen_to_signals()
        service = asyncio.create_task(self._service.run())
        sync = asyncio.create_task(self._sync.run())
        front_ends = asyncio.create_task(self._front_ends.run())
        models = asyncio.create_task(self._models.start(self._front_ends))
        self._updates = Updates(self._models, self._sync, lambda: asyncio.shield(models))
        self._sync.wants = self._updates.hear
        try:
            await self._until_stopped(models)
        finally:
            self._service.stopping(self._config.server.drain_seconds)
            service.cancel()
            await self._stop_in_reverse(sync, front_ends, models)

    async def _until_stopped(self, models: "asyncio.Task[None]") -> None:
        stop = asyncio.create_task(self._stop.wait())
        listening = asyncio.create_task(self._front_ends.listening())
        await asyncio.wait({stop, listening}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            self._addresses = listening.result()
            self._service.nudge()
            how = _security(self._config.server.tls)
            _log.info("listening on %s (%s) and %s", ", ".join(self._addresses), how, self._config.unix_socket)
            settled = asyncio.create_task(self._report_settled(models))
            await stop
            settled.cancel()
        listening.cancel()

    async def _report_settled(self, models: "asyncio.Task[None]") -> None:
        await models
        await self._models.settled()
        seconds = (monotonic_ms() - self._started_ms) / 1000
        missing = self._models.missing
        self._models.readiness_log.begin(missing)
        if missing:
            names = ", ".join(missing)
            _log.error(
                "not ready: models.required names %s, not loaded; see `appliance status`",
                names,
                extra=events.SERVICE_NOT_READY.of(),
            )
        else:
            _log.info("ready after %.1f s", seconds, extra=events.SERVICE_READY.of())

    async def _stop_in_reverse(
        self, sync: "asyncio.Task[None]", front_ends: "asyncio.Task[None]", models: "asyncio.Task[None]"
    ) -> None:
        seconds = self._config.server.drain_seconds
        _log.info(
            "stopping: no new calls; running ones may finish within %g s", seconds, extra=events.SERVICE_STOPPING.of()
        )
        await self._front_ends.stop(seconds, _STOP_GRACE_SECONDS)
        models.cancel()
        self._updates.stop()
        await self._models.stop()
        self._sync.stop()
        await asyncio.gather(front_ends, sync, models, return_exceptions=True)
        _log.info("stopped", extra=events.SERVICE_STOPPED.of())

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        _log.info("reloading the configuration and the certificates")
        task = asyncio.create_task(self._service.reload(self._reload_all))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload_all(self) -> str:
        """All of it or nothing: what went wrong, or what waits for a restart; "" where all is in force."""
        try:
            change = await asyncio.to_thread(self._reconfigure.look)
        except ApplianceError as error:
            facts = events.CONFIG_REFUSED.of(error_reason=error.reason)
            _log.error("not reloaded, the configuration in force stays: %s", error.message, extra=facts)
            return f"not reloaded: {error.message}"
        trouble = await self._front_ends.reload(change.running)
        if trouble:
            return f"not reloaded: {trouble}"
        self._reconfigure.accept(change)
        self._config = change.running
        configure(self._config.log, "supervisor")
        self._models.reconfigure(self._config)
        self._sync.reconfigure(self._config)
        _log.info(
            "reloaded; %s",
            f"in force now: {', '.join(change.live)}" if change.live else "no key has changed",
            extra=events.CONFIG_RELOADED.of(),
        )
        if not change.waiting:
            return ""
        keys = ", ".join(change.waiting)
        _log.warning("in force only after a restart: %s", keys, extra=events.CONFIG_WAITS.of())
        return f"in force only after a restart: {keys}"

    def _facts(self) -> Facts:
        proven_ms = {keeper.role: keeper.proven_ms for keeper in self._keepers()}
        return Facts(
            self._addresses,
            self._front_ends.table is not None,
            self._models.standing,
            self._models.missing,
            silent(proven_ms, monotonic_ms()),
        )

    def _keepers(self) -> tuple[ChildKeeper, ...]:
        return (*(m.keeper for m in self._front_ends.members), self._sync.keeper)

    # --- operators' questions ----------------------------------------------------------------------------------------

    async def _answer(self, question: Question, tell: Tell) -> Answer:
        models = self._models
        match question:
            case AskStatus():
                return self._status()
            case AskInspect(name=name, version=version):
                inventory = models.inventory
                chosen = version or inventory.active_version(name) or inventory.newest(name)
                return self._with_status(VersionAnswer(inventory.find(name, chosen)))
            case AskAdd():
                return self._with_status(await models.add(question, tell))
            case AskActivate(name=name, version=version, beside=beside, keep_previous=keep):
                seconds, force = question.probation_seconds, question.force
                return self._with_status(await models.activate(name, version, beside, keep, tell, seconds, force))
            case AskRollback(name=name):
                return self._with_status(await models.roll_back(name, tell))
            case AskBeginComparison() | AskEndComparison() | AskComparison():
                return await models.comparisons.answer(question, tell)
            case AskDeactivate(name=name, version=version):
                await models.deactivate(name, version, tell)
                return Nothing()
            case AskRemove(name=name, version=version):
                await models.remove(name, version)
                return Nothing()
            case AskCheckStore() | AskRepairStore() | AskCollectGarbage():
                return await store_care.answer(question, self._sync, models, tell)
            case AskSync() | AskPlan() | AskVisit() | AskTrust() | AskTrustClock():
                return await self._sync.ask(question)
            case AskRegister() | AskUnregister():
                await self._regions.answer(question)
                return Nothing()
            case _:
                raise FailedPrecondition(f"{type(question).__name__} is not a question for the supervisor")

    def _versions(self) -> list[VersionStatus]:
        inventory = self._models.inventory
        return [
            version_status(m, k, r, self._counters, inventory.probation_until_ms(m), inventory.bad(m))
            for m, k, r in self._models.rows()
        ]

    def _with_status(self, answer: VersionAnswer) -> VersionAnswer:
        key = (answer.model.name, answer.model.version)
        answer.status = next((v for v in self._versions() if (v.name, v.version) == key), None)
        return answer

    def _status(self) -> Answer:
        return daemon_status(
            self._started_ms,
            self._models.missing,
            (*self._addresses, f"unix:{self._config.unix_socket}"),
            str(self._config.state_dir),
            self._keepers(),
            self._versions(),
        )


def _security(tls: TlsConfig) -> str:
    if not tls.certificate:
        return "without TLS"
    return "mutual TLS" if tls.client_ca else "TLS"
