"""The supervisor's way to the sync process, the only writer of the store."""

import asyncio
import logging
from collections.abc import Callable

from appliance import events, limits
from appliance.config import Config
from appliance.control import Beat, Drain, FromChild, StartSync, Unneeded, Updated, Withdrawn
from appliance.errors import Unavailable
from appliance.questions import Answer, AskCatalogue, Catalogue, Progress, Question
from appliance.worker.child_keeper import ChildKeeper

_log = logging.getLogger(__name__)
_MODULE = "appliance.registry.sync_process"


class SyncLink:
    """Asks the sync process; while it is being started again, questions wait."""

    def __init__(self, config: Config) -> None:
        # Told of what the sync process wants by itself.
        self.wants: Callable[[Updated | Unneeded], None] = _unheard
        self._withdrawn: frozenset[tuple[str, str]] = frozenset()
        self._up = asyncio.Event()
        self._config = config
        self._renewals: set[asyncio.Task[None]] = set()
        self.keeper = ChildKeeper(
            "sync",
            _MODULE,
            order=lambda: StartSync(self._config),
            hear=self._hear,
            up=self._up.set,
            down=self._up.clear,
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

    def allows(self, name: str, version: str) -> bool:
        """Whether there may be a way back to a version: the publisher has not withdrawn it, as far as is known."""
        return (name, version) not in self._withdrawn

    def reconfigure(self, config: Config) -> None:
        """It starts anew by ``config`` when it has answered what it was asked; what it had begun to fetch, it resumes."""
        if (config.registry, config.log) == (self._config.registry, self._config.log):
            return
        self._config = config
        renewal = asyncio.create_task(self.keeper.renew())
        self._renewals.add(renewal)
        renewal.add_done_callback(self._renewals.discard)

    def stop(self) -> None:
        """It writes durably and resumes what it had begun, so it may end at once."""
        self.keeper.stop(Drain())
        self.keeper.kill()

    def _hear(self, message: FromChild) -> None:
        if isinstance(message, Updated | Unneeded):
            self.wants(message)
        elif isinstance(message, Withdrawn):
            self._withdrawn = frozenset(message.versions)
        elif not isinstance(message, Beat):
            _log.warning(
                "unexpected message from the sync process: %s", type(message).__name__, extra=events.INTERNAL_FAULT.of()
            )


def _unheard(message: Updated | Unneeded) -> None:
    """Before anybody listens."""
    _log.warning("nobody carries out %s", type(message).__name__, extra=events.INTERNAL_FAULT.of())


async def catalogue(sync: SyncLink) -> Catalogue:
    """What is stored; asks again for as long as the process that knows it dies over the question."""
    while True:
        try:
            answer = await sync.ask(AskCatalogue())
        except Unavailable:
            _log.error("the store could not be read, its process died: it is asked again", extra=events.SYNC_DIED.of())
            await asyncio.sleep(limits.restart_backoff_ms_min / 1000)
        else:
            assert isinstance(answer, Catalogue)  # control.py: the answer to AskCatalogue
            return answer
