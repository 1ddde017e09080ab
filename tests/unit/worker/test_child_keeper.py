"""A child that must always be there, with the sync process as the child."""

import asyncio
import errno
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from appliance import limits
from appliance.clock import monotonic_ms
from appliance.config import Config, PathsConfig
from appliance.control import Drain, StartSync
from appliance.errors import Unavailable
from appliance.osutil import child
from appliance.questions import AskCatalogue, Catalogue
from appliance.worker.child_keeper import ChildKeeper
from appliance.worker.child_link import ChildLink

MODULE = "appliance.registry.sync_process"
DEADLINE = 20.0


def order(folder: Path) -> StartSync:
    return StartSync(Config(paths=PathsConfig(state=str(folder), runtime=str(folder))))


def keeper_of(folder: Path, **calls: Any) -> ChildKeeper:
    return ChildKeeper("sync", MODULE, order=lambda: order(folder), hear=lambda _: None, **calls)


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, DEADLINE))


class Lives:
    """The pids of a keeper's child over its lives, as they begin."""

    def __init__(self, folder: Path) -> None:
        self.pids: asyncio.Queue[int] = asyncio.Queue()
        self.keeper = keeper_of(folder, up=self._up)
        self.task = asyncio.create_task(self.keeper.run())

    def _up(self) -> None:
        assert self.keeper.link is not None
        self.pids.put_nowait(self.keeper.link.pid)

    async def end(self) -> None:
        self.keeper.kill()
        await self.task


def test_a_child_that_dies_is_started_again(tmp_path: Path) -> None:
    async def scene() -> None:
        lives = Lives(tmp_path)
        first = await lives.pids.get()
        os.kill(first, signal.SIGKILL)
        assert await lives.pids.get() != first
        assert lives.keeper.restarts == 1
        await lives.end()

    run(scene())


def test_a_child_that_is_silent_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a front-end whose threads all hang would be; the bound of 20 s is shortened here, a beat still takes 1 s."""
    monkeypatch.setattr(limits, "beat_silence_ms_max", 2_000)

    async def scene() -> None:
        lives = Lives(tmp_path)
        first = await lives.pids.get()
        os.kill(first, signal.SIGSTOP)
        assert await lives.pids.get() != first
        await lives.end()

    run(scene())


def test_proof_of_life(tmp_path: Path) -> None:
    """Beats, and between two lives the keeper's own next step; a child that says nothing gives none."""

    async def scene() -> None:
        lives = Lives(tmp_path)
        first = await lives.pids.get()
        assert lives.keeper.link is not None
        lives.keeper.link.heard_ms = 7
        assert lives.keeper.proven_ms == 7
        before = monotonic_ms()
        os.kill(first, signal.SIGKILL)
        while lives.keeper.link is not None:
            await asyncio.sleep(0)
        assert lives.keeper.proven_ms >= before + limits.restart_backoff_ms_min // 2
        await lives.pids.get()
        assert lives.keeper.proven_ms >= before
        await lives.end()

    run(scene())


def test_stopped_while_its_child_is_being_started(tmp_path: Path) -> None:
    """The farewell has nobody to go to; the child must not be waited for in vain."""

    async def scene() -> None:
        keeper = keeper_of(tmp_path)
        task = asyncio.create_task(keeper.run())
        await asyncio.sleep(0)
        assert keeper.link is None
        keeper.stop(Drain())
        await task
        assert keeper.restarts == 0

    run(scene())


def test_stopped_in_order(tmp_path: Path) -> None:
    async def scene() -> None:
        lives = Lives(tmp_path)
        await lives.pids.get()
        lives.keeper.stop(Drain())
        await lives.task

    run(scene())


@pytest.mark.parametrize("asked_before", [True, False])
def test_a_dead_child_answers_with_unavailable(tmp_path: Path, asked_before: bool) -> None:
    """Also a question that comes after its death and before that has been noticed everywhere."""

    async def scene() -> None:
        link = await ChildLink.start(MODULE, order(tmp_path))
        hearing = asyncio.create_task(_hear_all(link))
        assert isinstance(await link.ask(AskCatalogue()), Catalogue)
        asked = asyncio.create_task(link.ask(AskCatalogue())) if asked_before else None
        os.kill(link.pid, signal.SIGSTOP)  # so that it can't have answered yet
        await asyncio.sleep(0)
        link.kill()
        await hearing
        with pytest.raises(Unavailable) as caught:
            await (asked or link.ask(AskCatalogue()))
        assert caught.value.reason == "CHILD_DIED"
        assert await link.ended() == -signal.SIGKILL

    run(scene())


async def _hear_all(link: ChildLink) -> None:
    async for _ in link.messages():
        pass


def test_a_machine_that_cannot_start_it_now_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn, tries = child.spawn, []

    def spawn_later(*arguments: Any, **more: Any) -> child.Child:
        tries.append(1)
        if len(tries) == 1:
            raise BlockingIOError(errno.EAGAIN, "no process left")
        return spawn(*arguments, **more)

    monkeypatch.setattr(child, "spawn", spawn_later)

    async def scene() -> None:
        lives = Lives(tmp_path)
        assert await lives.pids.get()
        assert lives.keeper.restarts == 1
        await lives.end()

    run(scene())


def test_a_child_that_starts_anew_has_answered_first_and_does_not_count_as_dead(tmp_path: Path) -> None:
    async def scene() -> None:
        lives = Lives(tmp_path)
        first = await lives.pids.get()
        link = lives.keeper.link
        assert link is not None
        os.kill(first, signal.SIGSTOP)
        asked = asyncio.create_task(link.ask(AskCatalogue()))
        await asyncio.sleep(0)
        renewal = asyncio.create_task(lives.keeper.renew())
        await asyncio.sleep(0)
        assert not renewal.done()
        os.kill(first, signal.SIGCONT)
        assert isinstance(await asked, Catalogue)
        await renewal
        assert await lives.pids.get() != first
        assert lives.keeper.restarts == 0
        await lives.end()

    run(scene())
