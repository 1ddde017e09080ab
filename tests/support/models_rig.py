"""`Models` of a daemon with real engine processes, a store in memory, and nobody who calls."""

import asyncio
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from fake_models import fake_spec, fake_version

from appliance.config import Config, PathsConfig
from appliance.daemon.models import Models
from appliance.errors import NotFound
from appliance.questions import (
    Answer,
    AskAdd,
    AskCatalogue,
    AskDesire,
    AskRemove,
    Catalogue,
    Desired,
    ModelVersion,
    Nothing,
    Question,
    VersionAnswer,
)
from appliance.types import ModelState

DEADLINE = 20.0


class MemorySync:
    """The sync process's part: uploads are versions by their number."""

    def __init__(self, *stored: ModelVersion, desired: Desired) -> None:
        self.stored = {m.version: m for m in stored}
        self.desired = desired
        self.uploads: dict[str, ModelVersion] = {}

    async def ask(self, question: Question, progress: object = None) -> Answer:
        match question:
            case AskCatalogue():
                return Catalogue(tuple(self.stored.values()), (self.desired,))
            case AskAdd(upload=upload):
                self.stored[upload] = self.uploads[upload]
                return VersionAnswer(self.uploads[upload])
            case AskRemove(version=version):
                del self.stored[version]
            case AskDesire(desired=desired):
                missing = {desired.active, *desired.beside} - {"", *self.stored}
                if missing:
                    raise NotFound(f"not stored: {missing}")
                self.desired = desired
        return Nothing()


class FrontEnds:
    """Nobody calls: each table is applied at once."""

    def publish(self, table: object) -> None: ...

    async def let_go(self, epoch: int, sockets: Collection[str]) -> None: ...


class Rig:
    def __init__(self, folder: Path, active: str, previous: str = "", instances: int = 1, **script: Any) -> None:
        self.folder = folder
        self.instances = instances
        versions = [self.version(v, **script) for v in dict.fromkeys((active, previous)) if v]
        self.sync = MemorySync(*versions, desired=Desired("m", active, (), previous))
        self.forbidden: set[str] = set()
        self.config = Config(paths=PathsConfig(state=str(folder / "state")))
        self.config.state_dir.mkdir()
        self.models = Models(
            self.config,
            self.sync,  # type: ignore[arg-type]  # stands for the process's link
            folder,
            allowed=lambda _name, version: version not in self.forbidden,
        )

    def version(self, version: str, **script: Any) -> ModelVersion:
        return fake_version(self.folder / version, fake_spec("m", version, instances=self.instances), **script)

    async def start(self) -> None:
        await self.models.start(FrontEnds())  # type: ignore[arg-type]  # stands for the processes
        await self.models.settled()

    def state(self, version: str) -> ModelState:
        return next(route.state for model, _, route in self.models.rows() if model.version == version)

    def kill(self, version: str) -> None:
        keeper = next(keeper for model, keeper, _ in self.models.rows() if model.version == version)
        assert keeper is not None
        for pid in keeper.pids:
            os.kill(pid, signal.SIGKILL)

    async def until(self, condition: Callable[[], bool]) -> None:
        async def poll() -> None:
            while not condition():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(poll(), DEADLINE)

    async def quarantined(self, version: str) -> None:
        self.kill(version)
        await self.until(lambda: self.state(version) is ModelState.QUARANTINED)

    async def add(self, version: str, probation: float = 0.0, activate: bool = True, **script: Any) -> None:
        self.sync.uploads[version] = self.version(version, **script)
        await self.models.add(AskAdd(version, activate, probation_seconds=probation), lambda _: None)

    async def activate(self, version: str, probation: float = 0.0, force: bool = False) -> None:
        await self.models.activate("m", version, False, False, lambda _: None, probation, force)
