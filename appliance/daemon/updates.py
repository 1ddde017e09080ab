"""Carries out what the sync process wants: an update that it has stored runs from now on, a version that it names goes.

The sync process decides what is installed, the supervisor what runs; neither waits for the other. How an update ended is
told once, and the sync process says again what it has not been told of (it may have died meanwhile).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

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
            _log.error("an update could not be carried out", exc_info=error)

    async def _update(self, message: Updated) -> None:
        await self._started()
        name, version = message.model.name, message.model.version
        self._models.stored(message.model)
        ended = AskUpdateEnded(name, version)
        if message.activate:
            try:
                await self._activate(name, version, message.probation_seconds)
            except ApplianceError as error:
                _log.warning("%s:%s is not activated: %s", name, version, error.message)
                ended = AskUpdateEnded(name, version, error.code.value, error.reason, error.message)
            except Exception as error:
                # Told as well: the sync process would wait for the end of this update for ever.
                _log.exception("%s:%s is not activated", name, version)
                failure = InternalError(f"{name}:{version} could not be activated: {error!r}")
                ended = AskUpdateEnded(name, version, failure.code.value, failure.reason, failure.message)
        await self._sync.ask(ended)

    async def _activate(self, name: str, version: str, probation_seconds: float) -> None:
        await self._models.idle(name)
        if self._models.inventory.active_version(name) != version:
            await self._models.activate(
                name, version, beside=False, keep_previous=False, tell=_unheard, probation_seconds=probation_seconds
            )

    async def _remove(self, message: Unneeded) -> None:
        await self._started()
        try:
            await self._models.idle(message.name)
            await self._models.remove(message.name, message.version)
        except ApplianceError as error:
            _log.warning("%s:%s is not removed: %s", message.name, message.version, error.message)


def _unheard(_progress: Progress) -> None:
    """Nobody waits for it."""
