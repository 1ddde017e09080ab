"""Keeps a child that must always be there (a front-end, the sync process) running."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from appliance import events, limits
from appliance.clock import monotonic_ms
from appliance.control import FromChild, ToChild
from appliance.worker.child_link import ChildLink, describe_end
from appliance.worker.restarts import RestartPolicy

_log = logging.getLogger(__name__)

# By role; all others are front-ends.
_DIED = {"sync": events.SYNC_DIED}
_HUNG = {"sync": events.SYNC_HUNG}


class ChildKeeper:
    """One child, over all its lives.

    ``order`` makes the first message of each life; ``hear`` gets what the child says; ``up`` is called when a life
    begins and ``down`` when it has ended. ``pass_fds``: descriptors that each life inherits.
    """

    def __init__(
        self,
        role: str,
        module: str,
        order: Callable[[], ToChild],
        hear: Callable[[FromChild], None],
        up: Callable[[], None] = lambda: None,
        down: Callable[[], None] = lambda: None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.role = role
        self.restarts = 0
        self.link: ChildLink | None = None
        self._module = module
        self._order = order
        self._hear = hear
        self._up = up
        self._down = down
        self._pass_fds = pass_fds
        self._next_step_ms = monotonic_ms()
        self._stopping = asyncio.Event()
        self._renewing = False
        self._policy = RestartPolicy(restarts_max=None)

    @property
    def proven_ms(self) -> int:
        """When there was proof that the child's work loop turns, or, between two lives, when the next is due.

        On CLOCK_MONOTONIC. A child that cannot even be killed (a disk that hangs) leaves it as it is.
        """
        return self._next_step_ms if self.link is None else self.link.heard_ms

    async def run(self) -> None:
        """Until ``stop`` was called and the child has ended."""
        while not self._stopping.is_set():
            try:
                link = self.link = await ChildLink.start(self._module, self._order(), self._pass_fds)
            except OSError as error:  # no process or no memory left: there may be again
                await self._back_off(f"could not be started: {error.strerror}", 0)
                continue
            _log.info("%s started, pid %d", self.role, link.pid)
            if self._stopping.is_set():  # asked while it was being started: it has begun nothing yet
                link.kill()
            self._up()
            watch = asyncio.create_task(self._watch(link))
            async for message in link.messages():
                self._hear(message)
            watch.cancel()
            link.kill()
            status = await link.ended()
            self.link = None
            self._down()
            if self._renewing:
                self._renewing = False
            elif not self._stopping.is_set():
                await self._back_off(describe_end(status), monotonic_ms() - link.started_ms)

    async def _back_off(self, how: str, up_ms: int) -> None:
        decision = self._policy.died(monotonic_ms(), up_ms)
        self.restarts += 1
        self._next_step_ms = monotonic_ms() + decision.delay_ms
        died = _DIED.get(self.role, events.FRONT_END_DIED).of(part=self.role)
        _log.error("%s died (%s); next start in %d ms", self.role, how, decision.delay_ms, extra=died)
        try:
            await asyncio.wait_for(self._stopping.wait(), decision.delay_ms / 1000)
        except asyncio.TimeoutError:
            return

    async def _watch(self, link: ChildLink) -> None:
        while True:
            await asyncio.sleep(limits.beat_interval_ms / 1000)
            silent_ms = monotonic_ms() - link.heard_ms
            if silent_ms > limits.beat_silence_ms_max:
                hung = _HUNG.get(self.role, events.FRONT_END_HUNG).of(part=self.role)
                _log.error("%s has been silent for %d ms: killed", self.role, silent_ms, extra=hung)
                link.kill()

    async def renew(self) -> None:
        """Ends this life as soon as no question is open; the next one begins at once, with an order made then."""
        link = self.link
        if link is None:
            return
        await link.idle()
        if link is self.link and not self._stopping.is_set():
            _log.info("%s starts anew, with the new configuration", self.role)
            self._renewing = True
            self._down()  # now: a question that comes before its end waits for the next life
            link.kill()

    def stop(self, farewell: ToChild) -> None:
        """Asks the child to end; it isn't started again."""
        self._stopping.set()
        if self.link is not None:
            self.link.send(farewell)

    def kill(self) -> None:
        """Ends the child at once; it isn't started again."""
        self._stopping.set()
        if self.link is not None:
            self.link.kill()
