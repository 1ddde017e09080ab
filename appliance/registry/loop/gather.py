"""The facts that a plan is made from: the configuration, this machine, the store, the journal and the clock, all at one moment."""

import os
from datetime import timezone
from fnmatch import fnmatchcase

from appliance import __version__
from appliance.config import RegistryConfig
from appliance.errors import InvalidArgument
from appliance.questions import Desired, ModelVersion
from appliance.registry.loop import hardware
from appliance.registry.pull.artefact import Places
from appliance.registry.pull.download import PARTIAL
from appliance.registry.release import Release
from appliance.registry.sync import windows
from appliance.registry.sync.facts import Blob, Device, Facts, Line, Stored, device_of, policy_of
from appliance.registry.sync.journal import Journal
from appliance.registry.sync.journal_file import Update
from appliance.registry.sync.planner import SyncPlan
from appliance.registry.sync.reasons import Why
from appliance.registry.sync.states import UNDER_WAY, State
from appliance.registry.trust.verified import Verified
from appliance.store import disk, manifest
from appliance.store.store import Store

Contents = frozenset[Blob]


class Gather:
    """``contents`` keeps what the manifests said that were read: they never change."""

    def __init__(self, config: RegistryConfig, places: Places, store: Store, journal: Journal) -> None:
        self._config = config
        self._places = places
        self._store = store
        self._journal = journal
        self._policy = policy_of(config)
        self._contents: dict[str, Contents] = {}

    def learn(self, release: Release, data: bytes) -> None:
        """A release's manifest has been read. Raises InvalidArgument where it is none."""
        try:
            self._contents[release.digest] = contents_of(data)
        except manifest.BadManifest as error:
            raise InvalidArgument(f"its manifest cannot be read: {error}", reason="MODEL_FILES") from None

    def needs(self, release: Release) -> tuple[str, ...]:
        """The digests of what a release is made of."""
        return tuple(sorted(blob.digest for blob in self._contents[release.digest]))

    def unknown(self, plan: SyncPlan) -> Release | None:
        """What has to be looked at before the plan can be believed: without its manifest all of a release counts as missing."""
        too_large = (waiting.release for waiting in plan.waiting if waiting.reason.why is Why.DISK)
        first = (install.release for install in plan.installs[:1])
        known = self._contents
        return next((each for each in (*first, *too_large) if each.digest not in known), None)

    def is_stored(self, release: Release) -> bool:
        """Whether this very artefact is in the store."""
        wanted = (release.line, release.version, release.digest)
        return any((model.name, model.version, model.digest) == wanted for model in self._store.versions())

    def wants(self, line: str) -> bool:
        """Whether the metadata of a line are fetched: those that may come, and those that are here."""
        names = {model.name for model in self._store.versions()}
        return line in names or any(fnmatchcase(line, pattern) for pattern in self._config.allow)

    def facts(self, verified: Verified, now_s: int, *, kept: frozenset[tuple[str, str]], visiting: bool) -> Facts:
        """``kept``: versions that the supervisor wouldn't remove; ``visiting``: an operator has brought a stick, now."""
        policy = self._policy._replace(windows=()) if visiting else self._policy
        stored = tuple(self._stored(model) for model in self._store.versions())
        return Facts(
            device=self._device(),
            policy=policy,
            releases=verified.releases,
            now_s=now_s,
            fresh_until_s=verified.fresh_until_s,
            stored=stored,
            lines=self._lines({(s.line, s.version): s.digest for s in stored}, kept),
            quarantined=self._quarantined(),
            free_bytes=disk.free_bytes(self._places.state),
            loose=self._loose(),
            partial=self._partial(),
            contents=lambda release: self._contents.get(release.digest),
            zone=windows.machine_zone() if policy.windows else timezone.utc,
            paused=self._journal.paused and not visiting,
        )

    def _device(self) -> Device:
        return device_of(self._config, self._journal.device, __version__, hardware.found())

    def _stored(self, model: ModelVersion) -> Stored:
        if model.digest not in self._contents:
            data = self._store.blobs.path(model.digest.partition(":")[2]).read_bytes()
            self._contents[model.digest] = contents_of(data)
        contents = self._contents[model.digest]
        return Stored(model.name, model.version, model.digest, contents, model.added_ms // 1000, model.brought)

    def _lines(self, digests: dict[tuple[str, str], str], kept: frozenset[tuple[str, str]]) -> dict[str, Line]:
        desired = {each.name: each for each in self._store.desired()}
        names = {*desired, *self._journal.updates, *(name for name, _ in kept)}
        updates = self._journal.updates
        return {name: self._line(desired.get(name, Desired(name)), updates.get(name), digests, kept) for name in names}

    def _line(
        self,
        desired: Desired,
        update: Update | None,
        digests: dict[tuple[str, str], str],
        kept: frozenset[tuple[str, str]],
    ) -> Line:
        name = desired.name
        in_use = {*desired.beside, *(version for other, version in kept if other == name)}
        counter = self._journal.counter(name)
        if update is None:
            return Line(desired.active, desired.previous, frozenset(in_use), counter)
        if update.state in UNDER_WAY:
            in_use.add(update.version)
        failed = update.state is State.FAILED
        ran = update.counter == counter and digests.get((name, update.version)) == update.digest
        return Line(
            desired.active,
            desired.previous,
            frozenset(in_use),
            counter,
            retry_s=update.retry_s if failed else 0,
            retry_digest=update.digest if failed else "",
            tries=update.tries,
            failure=update.reason,
            stopped=not desired.active and ran and update.state not in UNDER_WAY,
        )

    def _quarantined(self) -> dict[str, str]:
        found = {bad.digest: f"{bad.reason}; appliance sync now tries it again" for bad in self._journal.quarantine}
        for desired in self._store.desired():
            for bad in desired.quarantined:
                found[bad.digest] = f"{bad.reason}; appliance models activate --force lifts that"
        return found

    def _loose(self) -> Contents:
        """What earlier tries have brought of updates under way."""
        blobs = self._store.blobs
        sizes = {digest: blobs.size(digest.partition(":")[2]) for digest in self._journal.pinned}
        return frozenset(Blob(digest, size) for digest, size in sizes.items() if size >= 0)

    def _partial(self) -> dict[str, int]:
        folder = self._places.partial
        if not folder.is_dir():
            return {}
        files = [entry for entry in os.scandir(folder) if entry.name.endswith(PARTIAL)]
        return {f"sha256:{file.name.removesuffix(PARTIAL)}": file.stat(follow_symlinks=False).st_size for file in files}


def contents_of(data: bytes) -> Contents:
    """The blobs that a manifest names. Raises manifest.BadManifest."""
    parsed = manifest.parse(data)
    return frozenset(Blob(blob.digest, blob.size) for blob in parsed.blobs)
