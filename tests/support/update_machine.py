"""A machine that carries out one update with the real loop, trust, pull, journal and store; the supervisor is a stand-in.

It writes what the daemon writes (daemon/wishes.py), and loads nothing. What a version is worth the scenario says.
"""

import select
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance import limits
from appliance.clock import FakeClock
from appliance.config import RegistryConfig
from appliance.control import Unneeded, Updated
from appliance.daemon import wishes
from appliance.errors import ApplianceError
from appliance.questions import Desired
from appliance.registry.loop.errands import Errands
from appliance.registry.loop.gather import Gather
from appliance.registry.loop.healing import Healer
from appliance.registry.loop.means import Means
from appliance.registry.loop.record import Record
from appliance.registry.loop.updates import Updates
from appliance.registry.loop.visits import Visits
from appliance.registry.loop.word import Word
from appliance.registry.pull.artefact import Places
from appliance.registry.sources.layout import LayoutSource
from appliance.registry.sync.journal import Journal
from appliance.registry.sync.states import ENDS
from appliance.store import disk, manifest
from appliance.store.store import Store
from appliance.sync_questions import AskUpdateEnded, SyncStatus
from appliance.versions import BadVersion, OnProbation

DEADLINE = 20.0
# Of the file that each version has for itself.
BIG_BYTES = 300_000
TURNS = 400


class Scenario(NamedTuple):
    """What becomes of ``new``. ``old``: what ran before, "" nothing; ``end``: what runs in the end.

    ``fails`` its golden tests, or is ``worse`` than the version before; comes on a ``stick``; the disk is ``short`` of room.
    """

    name: str
    old: str
    new: str
    end: str
    fails: bool = False
    worse: bool = False
    stick: bool = False
    short: bool = False


class Machine:
    """On ``state``, with the registry (or the stick) in ``layout``. As a process that has just been started."""

    def __init__(self, state: Path, layout: Path, scenario: Scenario, clock: FakeClock) -> None:
        self.scenario = scenario
        self.clock = clock
        self.store = Store(state, clock)
        self.journal = Journal(state)
        config = RegistryConfig(
            url="offline:" if scenario.stick else f"layout:{layout}",
            prefix="acme",
            poll_seconds=100.0,
            parallel=1,
            probation_seconds=600.0,
        )
        places = Places(state, self.store.blobs)
        errands = Errands(config, state, places, clock, lambda: self.store.refs)
        self._sent: list[msgspec.Struct] = []
        means = Means(
            self.store,
            Record(self.journal, self.store, clock),
            Gather(config, places, self.store, self.journal),
            errands,
            Visits(clock, LayoutSource, _carry_nothing_back),
            Word(lambda _: None),
            clock,
            self._sent.append,
            lambda low, high: (low + high) / 2,
        )
        healer = Healer(
            state,
            self.store.blobs,
            lambda _sleep: [LayoutSource(layout)],
            errands.bandwidth,
            lambda: errands.known,
            lambda: self.store.refs,
            clock,
        )
        self.store.heal_with(healer.fetch)
        self._layout = layout
        self._updates = Updates(config, means)
        self.store.sweep()

    def work(self) -> None:
        """Until nothing is left to do: as an operator who says so, and a supervisor that obeys."""
        self._turns_until_idle()
        if self.scenario.stick:
            self._updates.visit(str(self._layout))
        self._updates.wish("now")
        self._turns_until_idle()
        self._end_probation()
        self._updates.wish("now")
        self._turns_until_idle()

    @property
    def active(self) -> str:
        """What should run."""
        return self.desired.active

    @property
    def desired(self) -> Desired:
        """Of the line press."""
        return next((each for each in self.store.desired() if each.name == "press"), Desired("press"))

    @property
    def at_rest(self) -> bool:
        """Whether every update has come to an end."""
        return all(update.state in ENDS for update in self.journal.updates.values())

    def serves(self) -> str:
        """The version that an engine could load now, every byte of it as it was signed; "" when none should run."""
        return self._whole(self.active) if self.active else ""

    def unverified(self) -> list[str]:
        """Versions that the store lists and whose bytes are not what their manifests say."""
        return [model.version for model in self.store.versions() if not self._whole(model.version)]

    def _whole(self, version: str) -> str:
        try:
            model = self.store.get("press", version)
        except ApplianceError:
            return ""
        layers = manifest.parse(self.store.blobs.path(model.digest[7:]).read_bytes()).layers
        files = [(layer, Path(model.folder) / manifest.file_path(layer)) for layer in layers]
        right = all(sha256(path.read_bytes()).hexdigest() == layer.hex for layer, path in files)
        return version if right else ""

    def _turns_until_idle(self) -> None:
        for _ in range(TURNS):
            self._updates.turn()
            if self._updates.courier.busy:
                assert select.select([self._updates.courier.fd], [], [], DEADLINE)[0]
            elif self._sent:
                self._obey(self._sent.pop(0))
            elif self._updates.due_ns > self.clock.monotonic_ns():
                return
        raise AssertionError(f"it comes to no end: {self._updates.status()}")

    def _obey(self, message: msgspec.Struct) -> None:
        if isinstance(message, Unneeded):
            self._end(message.name, message.version, lambda: self.store.remove(message.name, message.version))
        elif isinstance(message, Updated):
            self._end("press", message.model.version, lambda: self._activate(message.model.version))

    def _end(self, name: str, version: str, change: Callable[[], None]) -> None:
        try:
            change()
        except (ApplianceError, OSError) as error:
            words = error.message if isinstance(error, ApplianceError) else str(error)
            self._updates.ended(AskUpdateEnded(name, version, "INTERNAL", "FAILED", words))
        else:
            self._updates.ended(AskUpdateEnded(name, version))

    def _activate(self, version: str) -> None:
        before = self.desired
        if before.active == version:
            return
        if self.scenario.fails and version == self.scenario.new:
            self.store.set_desired(wishes.quarantined(before, self._bad(version)))
            raise ApplianceError("a golden test failed")
        stored = {model.version for model in self.store.versions()}  # a damaged one is nothing to come back to
        probation = OnProbation(1, 600.0) if before.active in stored else None
        self.store.set_desired(wishes.activated(before, version, False, probation, hold=True))

    def _end_probation(self) -> None:
        before = self.desired
        if before.probation is None:
            return
        try:
            if self.scenario.worse:
                self.store.set_desired(wishes.rolled_back(before, self._bad(before.active)))
            else:
                self.store.set_desired(wishes.committed(before))
        except (ApplianceError, OSError):
            self._end_probation()  # the daemon tries again as well; the fault is over

    def _bad(self, version: str) -> BadVersion:
        return BadVersion(version, self.store.get("press", version).digest, "it was worse")


def short_of_room(state: Path) -> None:
    """From now on this process sees a disk that has room for another version only once the oldest one is gone."""
    base = limits.sync_free_bytes_min + limits.sync_overhead_bytes
    oldest = "1.0.0"

    def free_bytes(_folder: Path) -> int:
        there = any((state / "models/press").glob(f"{oldest}.*"))
        return base + BIG_BYTES * (1 if there else 3) // 2

    disk.free_bytes = free_bytes


def _carry_nothing_back(stick: Path, _status: SyncStatus) -> Path:
    raise PermissionError(30, f"Read-only file system: {stick}")
