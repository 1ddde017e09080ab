"""The supervisor's way to the sync process, the only writer of the store."""

import asyncio
import logging
from collections.abc import Callable

from appliance.config import Config
from appliance.control import Beat, Drain, FromChild, StartSync
from appliance.questions import Answer, Progress, Question
from appliance.worker.child_keeper import ChildKeeper

_log = logging.getLogger(__name__)
_MODULE = "appliance.registry.sync_process"


class SyncLink:
    """Asks the sync process; while it is being started again, questions wait."""

    def __init__(self, config: Config) -> None:
        self._up = asyncio.Event()
        self.keeper = ChildKeeper(
            "sync", _MODULE, order=lambda: StartSync(config), hear=self._hear, up=self._up.set, down=self._up.clear
        )

    async def run(self) -> None:
        """Until stopped."""
        await self.keeper.run()

    async def ask(self, question: Question, progress: Callable[[Progress], None] = lambda _: None) -> Answer:
        """The answer; raises the ApplianceError that the sync process refuses with."""
        await self._up.wait()
        link = self.keeper.link
        assert link is not None  # it is up
        return await link.ask(question, progress)

    def stop(self) -> None:
        """It writes durably and resumes what it had begun, so it may end at once."""
        self.keeper.stop(Drain())
        self.keeper.kill()

    def _hear(self, message: FromChild) -> None:
        if not isinstance(message, Beat):
            _log.warning("unexpected message from the sync process: %s", type(message).__name__)
