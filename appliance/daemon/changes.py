"""One change of a model at a time: a second one is refused, or waits for the end of the first."""

import asyncio
import contextlib
from collections.abc import Iterator

from appliance.errors import FailedPrecondition


class Changes:
    """Which models are being changed. Used from the event loop only."""

    def __init__(self) -> None:
        self._busy: set[str] = set()
        self._ended = asyncio.Event()

    @contextlib.contextmanager
    def only(self, name: str) -> Iterator[None]:
        """The block is the only change of the model ``name``; raises FailedPrecondition (MODEL_BUSY) when it isn't."""
        if name in self._busy:
            raise FailedPrecondition(
                f"another change of model '{name}' is under way: try again when it has ended", reason="MODEL_BUSY"
            )
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)
            self._ended.set()
            self._ended = asyncio.Event()

    async def idle(self, name: str) -> None:
        """Waits until no change of the model is under way."""
        while name in self._busy:
            await self._ended.wait()
