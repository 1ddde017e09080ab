"""A rig of `Models` for the tests of this folder."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from models_rig import Rig

from appliance import limits


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Callable[..., None]]]:
    """``@rig("2.0.0", previous="1.0.0")`` runs a coroutine function with a rig that has started. One death is too many."""
    monkeypatch.setattr(limits, "restarts_in_window_max", 0)
    with tempfile.TemporaryDirectory(prefix="ia-") as folder:

        def make(*versions: str, **more: Any) -> Callable[..., None]:
            async def run(scene: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
                rig = Rig(Path(folder), *versions, **more)
                await rig.start()
                try:
                    await scene(rig)
                finally:
                    await rig.models.stop()

            return lambda scene: asyncio.run(run(scene))

        yield make
