"""A machine that gets updates, for tests of the loop: what is released and brought is simulated, store and journal are real."""

import os
import select
from collections.abc import Callable
from pathlib import Path

import msgspec

from appliance.clock import FakeClock
from appliance.config import RegistryConfig
from appliance.control import Unneeded, Updated, Withdrawn
from appliance.questions import Desired
from appliance.registry.loop.errands import Brought, Looked
from appliance.registry.loop.gather import Gather
from appliance.registry.loop.means import Means
from appliance.registry.loop.record import Record
from appliance.registry.loop.updates import Updates
from appliance.registry.loop.visits import Visits
from appliance.registry.loop.word import Word
from appliance.registry.pull.artefact import Places
from appliance.registry.release import Release
from appliance.registry.sources.base import Source
from appliance.registry.sources.layout import LayoutSource
from appliance.registry.sync.journal import Journal
from appliance.registry.sync.states import State
from appliance.registry.trust.verified import RoleState, Verified
from appliance.store import manifest
from appliance.store.store import Store
from appliance.sync_questions import AskUpdateEnded, SyncStatus
from tests.support import model_folders as folders

DEADLINE = 20.0
DAY = 86_400


class Floor:
    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock

    def now_s(self) -> int:
        return self._clock.wall_ns() // 10**9


class Trust:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = Floor(clock)


class Headquarters:
    """Errands whose registry is a store of its own; ``fail``: what the next errands raise, in turn."""

    def __init__(self, folder: Path, clock: FakeClock) -> None:
        self._folder = folder
        self._clock = clock
        self.shop = Store(folder / "headquarters", clock)
        self.box = Store(folder / "box", clock)
        self.trust = Trust(clock)
        self.releases: list[Release] = []
        self.fail: list[BaseException] = []
        self.asked = 0
        self.brought: list[str] = []
        self.cancelled = False
        self.done_bytes = self.total_bytes = 0
        self.fresh_s = DAY
        self.asks: list[str] = []

    def release(self, version: str, counter: int, toml: str = "", **more: object) -> Release:
        root = self._folder / f"folder-{version}-{counter}"
        model = self.shop.add(folders.make(root, toml or folders.onnx_toml(version)))
        size = len(self.shop.blobs.path(model.digest[7:]).read_bytes())
        made = Release("press", version, "r", model.digest, size, model.size_bytes, counter, 1, **more)  # type: ignore[arg-type]
        self.releases.append(made)
        return made

    def refresh(self, wanted: Callable[[str], bool]) -> Verified:
        self.asked += 1
        self._fail()
        expires = self.trust.clock.now_s() + self.fresh_s
        roles = tuple(RoleState(name, 1, expires) for name in ("root", "timestamp", "snapshot", "targets"))
        return Verified(tuple(r for r in self.releases if wanted(r.line)), ("press",), roles)

    def bring(self, release: Release) -> Brought:
        self._fail()
        self.brought.append(release.version)
        data = self.shop.blobs.path(release.digest[7:]).read_bytes()
        parsed = manifest.parse(data)
        for blob in (parsed.config, *parsed.layers):
            self.box.blobs.put(self.shop.blobs.path(blob.hex).read_bytes())
        return Brought(release, data)

    def look(self, release: Release) -> Looked:
        self._fail()
        return Looked(release, self.shop.blobs.path(release.digest[7:]).read_bytes())

    def last(self) -> Verified | None:
        return None

    def turn_to(self, stick: Source | None) -> None:
        self.asks.append(stick.name if stick else "registry")

    def _fail(self) -> None:
        if self.fail:
            raise self.fail.pop(0)

    def pinned(self) -> frozenset[str]:
        return frozenset()

    def adopted(self) -> None: ...

    def cancel(self) -> None:
        self.cancelled = True


class Box:
    """One machine with its loop; ``restart`` gives it another one on the same state."""

    def __init__(self, folder: Path, **config: object) -> None:
        self.folder = folder
        self.clock = FakeClock(monotonic_ns=10**12)
        self.headquarters = Headquarters(folder, self.clock)
        self.sent: list[Updated | Unneeded] = []
        self.carried_back: list[Path] = []
        self.withdrawn: list[tuple[tuple[str, str], ...]] = []
        self.config = msgspec.structs.replace(RegistryConfig(url="layout:/x", poll_seconds=100.0), **config)
        # Who it is decides when it polls.
        (folder / "box/state/sync.json").write_text('{"format": 1, "device": "press-hall-3"}')
        self.restart()

    def restart(self) -> None:
        """What a death of the process, or of the machine, leaves."""
        self.store = self.headquarters.box = Store(self.folder / "box", self.clock)
        self.journal = Journal(self.folder / "box")
        means = Means(
            self.store,
            Record(self.journal, self.store, self.clock),
            Gather(self.config, Places(self.folder / "box", self.store.blobs), self.store, self.journal),
            self.headquarters,  # type: ignore[arg-type]  # stands for Errands
            Visits(self.clock, LayoutSource, self._carry_back),
            Word(self._send),
            self.clock,
            self._send,
            lambda low, high: (low + high) / 2,
        )
        self.updates = Updates(self.config, means)

    def _carry_back(self, stick: Path, status: SyncStatus) -> Path:
        if not os.access(stick, os.F_OK):
            raise FileNotFoundError(2, "No such file or directory")
        self.carried_back.append(stick)
        return stick / f"return/{len(status.lines)}.json"

    def _send(self, message: msgspec.Struct) -> None:
        if isinstance(message, Withdrawn):
            self.withdrawn.append(message.versions)
            return
        assert isinstance(message, (Updated, Unneeded))
        self.sent.append(message)

    def turn(self) -> None:
        """One step, and what the courier does for it."""
        self.updates.turn()
        if self.updates.courier.busy:
            assert select.select([self.updates.courier.fd], [], [], DEADLINE)[0]

    def turns(self) -> None:
        """Until it waits for the time, or for the supervisor."""
        for _ in range(12):
            self.turn()

    def wait(self) -> float:
        """Until the next poll; the seconds."""
        seconds = (self.updates.due_ns - self.clock.monotonic_ns()) / 1e9
        self.clock.advance(max(seconds, 0.0) + 0.001)
        return seconds

    def runs(self, version: str, **more: object) -> None:
        """The supervisor made it run."""
        self.store.set_desired(Desired("press", version, **more))  # type: ignore[arg-type]
        self.updates.ended(AskUpdateEnded("press", version))

    def installs(self, version: str, counter: int) -> Release:
        """Released, brought and run."""
        release = self.headquarters.release(version, counter)
        self.updates.wish("now")
        self.turns()
        self.runs(version, previous=self.active)
        return release

    @property
    def active(self) -> str:
        """What should run."""
        return next((each.active for each in self.store.desired()), "")

    @property
    def line(self) -> tuple[str, str, str]:
        """What operators are told of it."""
        (found,) = self.updates.status().lines
        return found.version, found.state, found.reason

    @property
    def state(self) -> State:
        """Of the update in the journal."""
        return self.journal.updates["press"].state
