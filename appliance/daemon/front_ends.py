"""The front-end processes: what they route by, and when they have let go of an engine."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

from appliance.config import Config
from appliance.control import (
    Applied,
    Ask,
    Beat,
    Drain,
    FromChild,
    FrontEndReady,
    FrontEndRefused,
    Reload,
    RouteTable,
    StartFrontEnd,
    Told,
)
from appliance.errors import ApplianceError, FailedPrecondition, InternalError
from appliance.questions import Answer, Question, Refusal
from appliance.worker.child_keeper import ChildKeeper
from appliance.worker.child_link import ChildLink

_log = logging.getLogger(__name__)
_MODULE = "appliance.serve.front_end"

Tell = Callable[[Answer], None]
Responder = Callable[[Question, Tell], Awaitable[Answer]]


class FrontEnds:
    """All front-ends of this daemon.

    ``answer(question, tell)`` answers what an operator asks through a front-end; ``tell`` sends progress before it.
    ``counts(refused, lost)`` gets what a front-end counted since its last beat, by "name:version".
    """

    def __init__(
        self,
        config: Config,
        answer: Responder,
        counts: Callable[[dict[str, int], dict[str, int]], None],
    ) -> None:
        self._config = config
        self._answer = answer
        self._counts = counts
        self._table: RouteTable | None = None
        self._moved = asyncio.Event()
        self._refused = ""
        self._asked: set[asyncio.Task[None]] = set()
        self.members = [_FrontEnd(self, number) for number in range(config.front_end_count)]

    def publish(self, table: RouteTable) -> None:
        """Every front-end routes by ``table`` from now on."""
        self._table = table
        for member in self.members:
            member.send(table)

    async def applied(self, epoch: int) -> None:
        """Waits until no front-end has a call left on an engine that table ``epoch`` no longer names."""
        while any(m.behind(epoch) for m in self.members):
            await self._moved.wait()

    async def listening(self) -> tuple[str, ...]:
        """Waits until all front-ends listen: their addresses. Raises FailedPrecondition when one can't."""
        while not self._refused and any(m.address is None for m in self.members):
            await self._moved.wait()
        if self._refused:
            raise FailedPrecondition(self._refused, reason="CANNOT_LISTEN")
        return tuple(dict.fromkeys(m.address for m in self.members if m.address))

    def reload(self) -> None:
        """Certificates are read anew."""
        for member in self.members:
            member.send(Reload())

    async def run(self) -> None:
        """Until all have been stopped."""
        await asyncio.gather(*(m.keeper.run() for m in self.members))

    async def stop(self, seconds: float, grace_seconds: float) -> None:
        """Running calls may finish within ``seconds``; then they are cancelled, and at last the process is killed."""
        for member in self.members:
            member.keeper.stop(Drain(seconds))
        try:
            await asyncio.wait_for(self._all_gone(), seconds + grace_seconds)
        except asyncio.TimeoutError:
            _log.warning("front-ends did not stop in time: killed")
            for member in self.members:
                member.keeper.kill()
            await self._all_gone()

    async def _all_gone(self) -> None:
        while any(m.keeper.link is not None for m in self.members):
            await self._moved.wait()

    # --- what members report -----------------------------------------------------------------------------------------

    @property
    def table(self) -> RouteTable | None:
        """What a front-end that starts now must know; None until the store has been read.

        A front-end lets calls wait for its first table: by an empty one it would say that it is ready, and NOT_FOUND.
        """
        return self._table

    def order(self, number: int) -> StartFrontEnd:
        """The first message to front-end ``number``."""
        return StartFrontEnd(self._config, number, _core_for(number))

    def moved(self) -> None:
        """Something that somebody may wait for has changed."""
        self._moved.set()
        self._moved = asyncio.Event()

    def refuse(self, message: str) -> None:
        """A front-end cannot listen."""
        self._refused = self._refused or message
        self.moved()

    def counted(self, beat: Beat) -> None:
        """Adds up what a front-end counted."""
        if beat.refused or beat.lost:
            self._counts(beat.refused, beat.lost)

    def asked(self, link: ChildLink, ask: Ask) -> None:
        """Answers in the background."""
        task = asyncio.create_task(self._reply(link, ask))
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def _reply(self, link: ChildLink, ask: Ask) -> None:
        try:
            answer = await self._answer(ask.question, lambda progress: link.send(Told(ask.number, progress)))
        except ApplianceError as error:
            answer = Refusal(error.code.value, error.reason, error.message)
        except Exception:
            _log.exception("could not answer %s", type(ask.question).__name__)
            answer = Refusal(InternalError.code.value, InternalError.default_reason, "failed; the log says why")
        link.send(Told(ask.number, answer))


class _FrontEnd:
    """One front-end over all its lives."""

    def __init__(self, owner: FrontEnds, number: int) -> None:
        self._owner = owner
        self.address: str | None = None
        self._applied_epoch = -1
        self.keeper = ChildKeeper(
            f"front-end {number}",
            _MODULE,
            order=lambda: owner.order(number),
            hear=self._hear,
            up=self._up,
            down=self._down,
        )

    def send(self, message: RouteTable | Reload) -> None:
        if self.keeper.link is not None:
            self.keeper.link.send(message)

    def behind(self, epoch: int) -> bool:
        """A front-end that is down has no calls; the next one starts with the newest table."""
        return self.keeper.link is not None and self._applied_epoch < epoch

    def _up(self) -> None:
        if self._owner.table is not None:
            self.send(self._owner.table)

    def _down(self) -> None:
        self._applied_epoch = -1
        self._owner.moved()

    def _hear(self, message: FromChild) -> None:
        link = self.keeper.link
        assert link is not None  # it has just spoken
        match message:
            case Applied(epoch=epoch):
                # Two of its threads may report two tables, and the older one come second.
                self._applied_epoch = max(epoch, self._applied_epoch)
                self._owner.moved()
            case Beat():
                self._owner.counted(message)
            case FrontEndReady(address=address):
                self.address = address
                self._owner.moved()
            case FrontEndRefused(message=text):
                self._owner.refuse(text)
            case Ask():
                self._owner.asked(link, message)
            case _:
                _log.warning("unexpected message from a front-end: %s", type(message).__name__)


def _core_for(number: int) -> int:
    """The core of front-end ``number``: one that drifts over two cores does half the work (serve/README.md)."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[number % len(cores)] if len(cores) > 1 else -1
