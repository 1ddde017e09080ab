"""The front-end processes: what they route by, and when they have let go of an engine."""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection

import msgspec

from appliance import events
from appliance.comparison import Tally
from appliance.config import Config
from appliance.control import (
    Applied,
    Ask,
    Beat,
    Drain,
    FromChild,
    FrontEndReady,
    FrontEndRefused,
    RegionsApplied,
    RegionTable,
    Reload,
    Reloaded,
    RouteTable,
    StartFrontEnd,
    Told,
)
from appliance.core_plan import front_end_core
from appliance.errors import ApplianceError, FailedPrecondition, InternalError
from appliance.questions import Answer, Question, Refusal
from appliance.worker.child_keeper import ChildKeeper
from appliance.worker.child_link import ChildLink
from appliance.worker.processors import Processors

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
        processors: Processors | None = None,
    ) -> None:
        self._config = self._counted(config)
        self._answer = answer
        self._counts = counts
        self.processors = processors or Processors()
        # Told what front-ends saw of candidates beside active versions.
        self.compared: Callable[[tuple[Tally, ...]], None] = lambda _: None
        # Called with each new table.
        self.published: Callable[[], None] = lambda: None
        self._table: RouteTable | None = None
        self._regions = RegionTable()
        self._moved = asyncio.Event()
        self._refused = ""
        self._asked: set[asyncio.Task[None]] = set()
        self.members = [_FrontEnd(self, number) for number in range(config.front_end_count)]

    def publish(self, table: RouteTable) -> None:
        """Every front-end routes by ``table`` from now on."""
        self._table = table
        self.published()
        for member in self.members:
            member.send(table)

    async def publish_regions(self, table: RegionTable) -> None:
        """Every front-end knows these regions, and no others, when this returns."""
        self._regions = table
        for member in self.members:
            member.send(table)
        while any(m.lacks_regions(table.epoch) for m in self.members):
            await self._moved.wait()

    async def let_go(self, epoch: int, sockets: Collection[str]) -> None:
        """Waits until all front-ends route by table ``epoch`` and have no call left on an engine with these sockets."""
        while any(m.behind(epoch, sockets) for m in self.members):
            await self._moved.wait()

    async def listening(self) -> tuple[str, ...]:
        """Waits until all front-ends listen: their addresses. Raises FailedPrecondition when one can't."""
        while not self._refused and any(m.address is None for m in self.members):
            await self._moved.wait()
        if self._refused:
            raise FailedPrecondition(self._refused, reason="CANNOT_LISTEN")
        return tuple(dict.fromkeys(m.address for m in self.members if m.address))

    async def reload(self, config: Config) -> str:
        """Certificates are read anew: returns when all have, why the old ones stay in use, "" when they don't.

        Only then front-ends that start later go by ``config``. One reload at a time.
        """
        fresh = self._counted(config)
        for member in self.members:
            member.reload(fresh)
        while any(m.reloading for m in self.members):
            await self._moved.wait()
        trouble = next((m.trouble for m in self.members if m.trouble), "")
        if not trouble:
            self._config = fresh
        return trouble

    @staticmethod
    def _counted(config: Config) -> Config:
        """Counted here: a front-end that is pinned sees one core only."""
        server = msgspec.structs.replace(config.server, front_ends=config.front_end_count)
        return msgspec.structs.replace(config, server=server)

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
            _log.warning("front-ends did not stop in time: killed", extra=events.PART_SLOW_STOP.of(part="front-ends"))
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

    @property
    def regions(self) -> RegionTable:
        """The shared memory that a front-end that starts now must know."""
        return self._regions

    def order(self, number: int) -> StartFrontEnd:
        """The first message to front-end ``number``."""
        core = front_end_core(number, list(os.sched_getaffinity(0)))
        return StartFrontEnd(self._config, number, core, self.processors.realtime, self.processors.board_fd)

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
        if beat.compared:
            self.compared(beat.compared)

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
            _log.exception("could not answer %s", type(ask.question).__name__, extra=events.INTERNAL_FAULT.of())
            answer = Refusal(InternalError.code.value, InternalError.default_reason, "failed; the log says why")
        link.send(Told(ask.number, answer))


class _FrontEnd:
    """One front-end over all its lives."""

    def __init__(self, owner: FrontEnds, number: int) -> None:
        self._owner = owner
        self.address: str | None = None
        self._applied = Applied(-1)
        self._regions_epoch = -1
        self.reloading = False
        self.trouble = ""
        self.keeper = ChildKeeper(
            f"front-end {number}",
            _MODULE,
            order=lambda: owner.order(number),
            hear=self._hear,
            up=self._up,
            down=self._down,
            pass_fds=owner.processors.pass_fds,
        )

    def send(self, message: RouteTable | RegionTable | Reload) -> None:
        if self.keeper.link is not None:
            self.keeper.link.send(message)

    def reload(self, config: Config) -> None:
        """One that is down reads what is there when it starts."""
        self.reloading, self.trouble = self.keeper.link is not None, ""
        self.send(Reload(config))

    def behind(self, epoch: int, sockets: Collection[str]) -> bool:
        """A front-end that is down has no calls; the next one starts with the newest table."""
        applied = self._applied
        return self.keeper.link is not None and (applied.epoch < epoch or any(s in sockets for s in applied.busy))

    def lacks_regions(self, epoch: int) -> bool:
        """As for tables: the next one starts with the newest list."""
        return self.keeper.link is not None and self._regions_epoch < epoch

    def _up(self) -> None:
        # Before the table, after which calls come.
        self.send(self._owner.regions)
        if self._owner.table is not None:
            self.send(self._owner.table)

    def _down(self) -> None:
        self._applied = Applied(-1)
        self._regions_epoch = -1
        self.reloading = False
        self._owner.moved()

    def _hear(self, message: FromChild) -> None:
        link = self.keeper.link
        assert link is not None  # it has just spoken
        match message:
            case Applied():
                self._applied = message
                self._owner.moved()
            case RegionsApplied(epoch=epoch):
                self._regions_epoch = epoch
                self._owner.moved()
            case Reloaded(message=text):
                self.reloading, self.trouble = False, text
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
                _log.warning(
                    "unexpected message from a front-end: %s", type(message).__name__, extra=events.INTERNAL_FAULT.of()
                )
