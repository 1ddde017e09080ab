"""The list of shared memory that clients have registered. It lives as long as the daemon: regions are memory, too."""

from collections.abc import Awaitable, Callable

from appliance import limits
from appliance.control import RegionTable
from appliance.errors import AlreadyExists, ResourceExhausted
from appliance.questions import AskRegister, AskUnregister, RegionEntry

Publish = Callable[[RegionTable], Awaitable[None]]


class Regions:
    """Answers when all front-ends know: no client then meets one that doesn't."""

    def __init__(self, publish: Publish) -> None:
        """``publish(table)`` returns when every front-end has applied it."""
        self._publish = publish
        self._entries: dict[str, RegionEntry] = {}
        self._epoch = 0

    async def answer(self, question: AskRegister | AskUnregister) -> None:
        """What a client asks for; raises what ``register`` raises."""
        if isinstance(question, AskRegister):
            await self.register(question.region)
        else:
            await self.unregister(question.name)

    async def register(self, entry: RegionEntry) -> None:
        """Raises AlreadyExists for a name that is taken, ResourceExhausted for one region too many."""
        if entry.name in self._entries:
            raise AlreadyExists(
                f"shared memory region '{entry.name}' is registered already: unregister it first",
                reason="SHARED_MEMORY_EXISTS",
            )
        if len(self._entries) >= limits.shared_regions_max:
            raise ResourceExhausted(
                f"{len(self._entries)} shared memory regions are registered, which is the most there may be: unregister "
                "some",
                reason="SHARED_MEMORY_REGIONS",
            )
        self._entries[entry.name] = entry
        await self._tell()

    async def unregister(self, name: str) -> None:
        """All of them for ""; a name that isn't there changes nothing."""
        if name:
            self._entries.pop(name, None)
        else:
            self._entries.clear()
        # Also when nothing changed: another's request for the same may still be on its way to some front-end.
        await self._tell()

    async def _tell(self) -> None:
        self._epoch += 1
        await self._publish(RegionTable(self._epoch, tuple(self._entries.values())))
