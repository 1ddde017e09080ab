"""What the supervisor believes of its front-ends; their processes are not started here."""

import asyncio
import os

import pytest

from appliance.config import Config, ServerConfig
from appliance.control import Applied, Reloaded
from appliance.daemon.front_ends import FrontEnds
from appliance.questions import Answer, Nothing, Question


async def _nothing(_question: Question, _tell: object) -> Answer:
    return Nothing()


def test_front_ends_are_told_how_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is pinned to a core before it could count them, and must know whether it shares the port."""

    async def scene() -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        front_ends = FrontEnds(Config(), _nothing, lambda _refused, _lost: None)
        orders = [front_ends.order(number) for number in range(len(front_ends.members))]
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
        assert [(order.core, order.config.front_end_count) for order in orders] == [(0, 2), (1, 2)]

    asyncio.run(scene())


def test_an_engine_is_let_go_when_its_own_calls_are_back() -> None:

    async def scene() -> None:
        front_ends = FrontEnds(Config(), _nothing, lambda _refused, _lost: None)
        member = front_ends.members[0]
        member.keeper.link = object()  # type: ignore[assignment]  # somebody is there
        assert member.behind(3, ("a",))
        member._hear(Applied(3, ("a", "b")))
        assert member.behind(3, ("a",))
        assert not member.behind(3, ("c",))
        assert member.behind(4, ("c",))
        member._hear(Applied(4, ("b",)))
        assert not member.behind(3, ("a", "c"))
        assert member.behind(3, ("b",))
        waiting = asyncio.create_task(front_ends.let_go(4, {"b"}))
        await asyncio.sleep(0)
        assert not waiting.done()
        member._hear(Applied(4))
        await asyncio.wait_for(waiting, 10)

        member._down()
        assert member.behind(4, ())
        member.keeper.link = None
        assert not member.behind(4, ("b",))

    asyncio.run(scene())


class _Somebody:
    """Stands for a process that takes messages and says nothing by itself."""

    def send(self, _message: object) -> None:
        pass


def test_a_reload_is_over_when_all_have_told_or_are_gone() -> None:

    async def scene() -> None:
        config = Config(server=ServerConfig(front_ends=3))
        front_ends = FrontEnds(config, _nothing, lambda _refused, _lost: None)
        tells, dies, down = front_ends.members
        for member in (tells, dies):
            member.keeper.link = _Somebody()  # type: ignore[assignment]  # as much of a link as is needed
        longer = Config(server=ServerConfig(front_ends=3, drain_seconds=99))
        for trouble in ("the key is another's", ""):
            waiting = asyncio.create_task(front_ends.reload(longer))
            await asyncio.sleep(0)
            assert (tells.reloading, dies.reloading, down.reloading) == (True, True, False)
            tells._hear(Reloaded(trouble))
            await asyncio.sleep(0)
            assert not waiting.done()
            dies._down()
            assert await asyncio.wait_for(waiting, 10) == trouble
            # One that starts later goes by what the others took.
            assert front_ends.order(0).config.server.drain_seconds == (20 if trouble else 99)

    asyncio.run(scene())
