"""What the supervisor believes of its front-ends; their processes are not started here."""

import asyncio

from appliance.config import Config
from appliance.control import Applied
from appliance.daemon.front_ends import FrontEnds
from appliance.questions import Answer, Nothing, Question


async def _nothing(_question: Question, _tell: object) -> Answer:
    return Nothing()


def test_tables_that_two_threads_report_out_of_order() -> None:
    """Each is told outside of the router's lock: the older one may come second, and must not undo the newer."""

    async def scene() -> None:
        front_ends = FrontEnds(Config(), _nothing, lambda _refused, _lost: None)
        member = front_ends.members[0]
        member.keeper.link = object()  # type: ignore[assignment]  # somebody is there
        for epoch in (3, 2):
            member._hear(Applied(epoch))
        assert not member.behind(3)
        assert member.behind(4)

    asyncio.run(scene())
