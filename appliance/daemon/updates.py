"""Carries out what the sync process wants: an update that it has stored runs from now on, a version that it names goes.

The sync process decides what is installed, the supervisor what runs; neither waits for the other. How an update ended is
told once, and the sync process says again what it has not been told of (it may have died meanwhile).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from appliance import events
from appliance.control import Unneeded, Updated
from appliance.daemon.models import Models
from appliance.daemon.sync_link import SyncLink
from appliance.errors import ApplianceError, InternalError
from appliance.questions import Progress
from appliance.sync_questions import AskUpdateEnded

_log = logging.getLogger(__name__)


class Updates:
    """``started``: completes when what is stored is known."""

    def __init__(self, models: Models, sync: SyncLink, started: Callable[[], Awaitable[None]]) -> None:
        self._models = models
        self._sync = sync
        self._started = started
        self._tasks: set[asyncio.Task[None]] = set()
        # A sync process that was started anew says again what it has not been told of: comparisons take long.
        self._under_way: set[tuple[str, str, bool]] = set()

    def hear(self, message: Updated | Unneeded) -> None:
        """One message of the sync process."""
        work = self._update(message) if isinstance(message, Updated) else self._remove(message)
        self._begin(work)

    def stop(self) -> None:
        """What is under way is begun again at the next start."""
        for task in self._tasks:
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("an update could not be carried out", exc_info=error, extra=events.UPDATE_FAILED.of())

    async def _update(self, message: Updated) -> None:
        await self._started()
        name, version = message.model.name, message.model.version
        key = (name, version, message.activate)
        if key in self._under_way:
            return  # it is told when that has ended
        self._under_way.add(key)
        try:
            self._models.stored(message.model)
            change = self._activate(message) if message.activate else None
            await self._carry_out(name, version, change, "activated")
        finally:
            self._under_way.discard(key)

    async def _remove(self, message: Unneeded) -> None:
        await self._started()
        await self._carry_out(message.name, message.version, self._removed(message.name, message.version), "removed")

    async def _carry_out(self, name: str, version: str, change: Coroutine[Any, Any, None] | None, done: str) -> None:
        """Tells the end of it, whatever that is: the sync process waits for it."""
        ended = AskUpdateEnded(name, version)
        try:
            if change is not None:
                await change
        except ApplianceError as error:
            facts = events.UPDATE_NOT_ACTIVATED.of(name, version)
            _log.warning("%s:%s is not %s: %s", name, version, done, error.message, extra=facts)
            ended = AskUpdateEnded(name, version, error.code.value, error.reason, error.message)
        except Exception as error:
            facts = events.UPDATE_NOT_ACTIVATED.of(name, version)
            _log.exception("%s:%s is not %s", name, version, done, extra=facts)
            failure = InternalError(f"{name}:{version} could not be {done}: {error!r}")
            ended = AskUpdateEnded(name, version, failure.code.value, failure.reason, failure.message)
        await self._sync.ask(ended)

    async def _activate(self, message: Updated) -> None:
        """Compares it first, where that is asked for. A candidate that doesn't take over leaves memory again."""
        models, name, version = self._models, message.model.name, message.model.version
        await models.idle(name)
        try:
            for plan in message.plans:
                await models.compared(name, version, plan)
                await models.idle(name)
            if models.inventory.active_version(name) != version:
                seconds = message.probation_seconds
                await models.activate(name, version, False, False, tell=_unheard, probation_seconds=seconds)
        except Exception:
            await models.comparisons.unload(message.model)
            raise

    async def _removed(self, name: str, version: str) -> None:
        await self._models.idle(name)
        await self._models.remove(name, version)


def _unheard(_progress: Progress) -> None:
    """Nobody waits for it."""
