"""The model store: what is stored under which name and version, and what should run. One process writes it.

    <state>/store/     OCI image layout: oci-layout, index.json, blobs/sha256/
    <state>/models/    views (views.py): what engines open
    <state>/state/     desired.json, ballast

Order of an add: blobs, config, manifest, view, and index.json last: before that nothing refers to them, after that
everything is there. Order of a remove: index.json first, then the sweep.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from appliance import events, semver
from appliance.clock import Clock, SystemClock
from appliance.errors import AlreadyExists, ApplianceError, FailedPrecondition, NotFound
from appliance.model_spec import ModelSpec
from appliance.osutil import durable
from appliance.questions import Desired, ModelVersion
from appliance.store import adopt, check, disk, garbage, ingest, manifest, model_rules, model_toml, near, repair
from appliance.store.blobs import Blobs
from appliance.store.desired import DesiredFile
from appliance.store.garbage import Pins
from appliance.store.index import BROUGHT, Index, Key, added_ms, brought
from appliance.store.ingest import Progress, no_progress
from appliance.store.manifest import Descriptor
from appliance.store.parts import Parts
from appliance.store.repair import Fetch
from appliance.store.views import Views
from appliance.store_questions import GarbageReport, StoreReport

_log = logging.getLogger(__name__)

# What an index, a desired.json or a view may need beside the model's own bytes.
_SMALL_WRITE_BYTES = 64 * 1024


class _Damaged(Exception):
    """A version in the index that can't be served, and why."""


class Store:
    """The store under a state folder. Not safe for two processes: the daemon's lock sees to that.

    A version that the index lists but that is damaged is logged and left out of ``versions``; adding the same files
    again repairs it.
    """

    def __init__(self, state: Path, clock: Clock | None = None) -> None:
        self._state = state
        self._clock = clock or SystemClock()
        layout = state / "store"
        durable.mkdir(layout)
        self._blobs = Blobs(layout)
        self._index = Index(layout, self._blobs)
        self._views = Views(state / "models", self._blobs)
        self._desired = DesiredFile(state / "state")
        self._ballast = disk.Ballast(state / "state")
        self._ballast.take_on()
        self._parts = Parts(state, self._blobs, self._index, self._views, self._desired)
        self._pins: list[Pins] = []
        self._fetch: Fetch = repair.no_fetch
        self._models: dict[tuple[str, str], ModelVersion] = {}
        for name, version in list(self._index.refs):
            self._open(name, version)

    # --- reading -----------------------------------------------------------------------------------------------------

    def versions(self) -> tuple[ModelVersion, ...]:
        """All versions that can be served, by name, the newest version last."""
        return tuple(sorted(self._models.values(), key=lambda m: (m.name, semver.sort_key(m.version))))

    def desired(self) -> tuple[Desired, ...]:
        """What should run, by name."""
        return tuple(self._desired.models[name] for name in sorted(self._desired.models))

    def get(self, name: str, version: str = "") -> ModelVersion:
        """One version; without ``version`` the active one, or else the newest. Raises NotFound."""
        versions = [m.version for m in self.versions() if m.name == name]
        if not versions:
            raise NotFound(
                f'no model "{name}" is stored here{near.hint(name, {m.name for m in self._models.values()})}',
                reason="MODEL_UNKNOWN",
            )
        if not version:
            active = self._desired.models.get(name, Desired(name)).active
            version = active if active in versions else versions[-1]
        if version not in versions:
            raise NotFound(
                f'model "{name}" has no version "{version}" here; stored: {", ".join(versions)}',
                reason="VERSION_UNKNOWN",
            )
        return self._models[name, version]

    @property
    def refs(self) -> Mapping[Key, Descriptor]:
        """What the index lists now. Any thread may look: a change makes another mapping."""
        return self._index.refs

    # --- changing ----------------------------------------------------------------------------------------------------

    def add(self, root: Path, *, consume: bool = False, progress: Progress = no_progress) -> ModelVersion:
        """Stores the model folder ``root``; durable when it returns. The same content again changes nothing.

        ``consume``: the folder is ours and will be thrown away, so its files may become blobs without a copy.
        Raises InvalidArgument (MODEL_TOML, MODEL_FILES), AlreadyExists (VERSION_EXISTS) or ResourceExhausted
        (DISK_FULL); whatever it raises, the index is what it was, and blobs that are whole may be left for a next try.
        """
        plan = ingest.plan(root, self._blobs, consume=consume, progress=progress)
        spec, entry = plan.folder.spec, plan.artefact.descriptor
        self._check_new(spec, entry)
        disk.check_room(self._state, plan.needed_bytes)
        with disk.full_is_refused(self._state, plan.needed_bytes):
            ingest.carry_out(plan, self._blobs, progress)
            return self._list(spec, plan.artefact.manifest.layers, entry)

    def adopt(self, name: str, version: str, data: bytes) -> ModelVersion:
        """Takes an artefact of which all blobs but the manifest ``data`` are stored; durable when it returns.

        Raises InvalidArgument (MODEL_TOML, MODEL_FILES), AlreadyExists (VERSION_EXISTS) or ResourceExhausted (DISK_FULL).
        """
        found = adopt.check(data, name, version, self._blobs)
        self._check_new(found.spec, found.entry)
        with disk.full_is_refused(self._state, _SMALL_WRITE_BYTES):
            self._blobs.put(data)
            entry = msgspec.structs.replace(found.entry, annotations={**found.entry.annotations, BROUGHT: "yes"})
            return self._list(found.spec, found.layers, entry)

    @property
    def blobs(self) -> Blobs:
        """For whoever brings blobs: each is there whole or not at all, whoever writes it."""
        return self._blobs

    def remove(self, name: str, version: str) -> None:
        """Forgets a version and frees what only it needed; gone for good when it returns.

        Raises NotFound, or FailedPrecondition (MODEL_IN_USE) while it is among what should run.
        """
        if (name, version) not in self._index.refs:
            self.get(name, version or "(none)")  # says what there is
        desired = self._desired.models.get(name)
        if desired and version in (desired.active, *desired.beside):
            raise FailedPrecondition(
                f'model "{name}" version "{version}" is in use: deactivate it first', reason="MODEL_IN_USE"
            )
        self._write_small(lambda: self._change_index(lambda: self._index.drop(name, version)))
        try:
            self.sweep()
        except OSError:
            _log.exception(
                "cleaning up after a removal failed; the next sweep tries again", extra=events.STORE_UNKEMPT.of()
            )

    def set_desired(self, desired: Desired) -> None:
        """Makes this what should run of one model, durably. Raises NotFound for a version that isn't stored."""
        for version in filter(None, (desired.active, *desired.beside)):
            self.get(desired.name, version)
        self._write_small(lambda: self._desired.set(desired))

    def sweep(self) -> None:
        """Removes blobs and views that no version and no pin needs, and what a crash left half-written."""
        self.collect_garbage()
        self._desired.level(lambda name, version: (name, version) in self._index.refs)
        self._ballast.take_on()

    # --- looking after it (check.py, repair.py, garbage.py) ------------------------------------------------------------

    def pin(self, pins: Pins) -> None:
        """From now on the blobs that ``pins`` names (digests; a manifest with all that it names) are never garbage."""
        self._pins.append(pins)

    def heal_with(self, fetch: Fetch) -> None:
        """From now on a repair asks ``fetch`` for what has rotted and is nowhere else on this disk."""
        self._fetch = fetch

    def check(self, progress: Progress = no_progress) -> StoreReport:
        """Reads all that is stored and says what is damaged; changes nothing."""
        return check.check(self._parts, progress).report()

    def repair(self, progress: Progress = no_progress) -> StoreReport:
        """Heals what can be healed, then checks again; versions that are whole again are in ``versions``."""
        try:
            with disk.full_is_refused(self._state, _SMALL_WRITE_BYTES):
                return repair.repair(self._parts, self._fetch, progress)
        finally:
            running = {(d.name, v) for d in self.desired() for v in (d.active, *d.beside)}
            for key in self._models.keys() - self._index.refs.keys():
                del self._models[key]
            for key in self._index.refs:
                if key not in self._models or key not in running:  # what runs stays, as long as it runs
                    self._open(*key)

    def collect_garbage(
        self, *, dry_run: bool = False, set_aside: bool = False, beat: Callable[[], None] = lambda: None
    ) -> GarbageReport:
        """Removes what no version and no pin needs, or says what that would be; never a blob in use."""
        doomed = garbage.plan(self._parts, self._pins, set_aside=set_aside)
        for sentence in doomed.kept:
            _log.warning("unused blobs are kept: %s", sentence, extra=events.STORE_BLOBS_KEPT.of())
        if not dry_run:
            garbage.carry_out(doomed, beat)
        report = garbage.report(self._parts, doomed, dry_run=dry_run)
        if report.bytes_freed and not dry_run:
            _log.info("removed %d bytes that no model needs", report.bytes_freed)
        return report

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_new(self, spec: ModelSpec, entry: Descriptor) -> None:
        known = self._index.refs.get((spec.name, spec.version))
        if known and known.digest != entry.digest:
            raise AlreadyExists(
                f'model "{spec.name}" version "{spec.version}" is stored already, with other content: raise the version'
                " number",
                reason="VERSION_EXISTS",
            )

    def _list(self, spec: ModelSpec, layers: tuple[Descriptor, ...], entry: Descriptor) -> ModelVersion:
        """All blobs are there: the view, and the index last."""
        name, version = spec.name, spec.version
        self._views.ensure(self._views.path(name, version, entry.digest), layers)
        if (name, version) not in self._index.refs:
            added = self._clock.wall_ns() // 1_000_000
            self._change_index(lambda: self._index.set(name, version, entry, added))
        if (name, version) not in self._models and not self._open(name, version):
            raise OSError("a version that was just stored cannot be read back")
        return self._models[name, version]

    def _change_index(self, change: Callable[[], None]) -> None:
        """Changes the index and lets the catalogue follow, also when the change fails after its commit."""
        before = set(self._index.refs)
        try:
            change()
        finally:
            after = set(self._index.refs)
            for key in before - after:
                self._models.pop(key, None)
            for name, version in after - before:
                self._open(name, version)

    def _write_small(self, change: Callable[[], None]) -> None:
        """A change that must also work on a full disk, because it is the way out: gives the ballast up for it."""
        with disk.full_is_refused(self._state, _SMALL_WRITE_BYTES):
            try:
                change()
            except OSError as error:
                if not (disk.is_full(error) and self._ballast.drop()):
                    raise
                change()

    def _open(self, name: str, version: str) -> bool:
        """Takes a version of the index into the catalogue, its view built; False when it can't be served."""
        self._models.pop((name, version), None)
        entry = self._index.refs[name, version]
        try:
            self._models[name, version] = self._version_of(name, version, entry)
        except (_Damaged, ApplianceError, OSError) as error:
            facts = events.STORE_DAMAGED.of(name, version)
            _log.error(
                "stored model %s:%s is damaged and not served (%s): add its folder again, or remove it",
                name,
                version,
                error,
                extra=facts,
            )
            return False
        return True

    def _version_of(self, name: str, version: str, entry: Descriptor) -> ModelVersion:
        layers = self._manifest(entry).layers
        paths = [manifest.file_path(layer) for layer in layers]
        if len(set(paths)) != len(paths) or any(map(model_rules.path_problem, paths)):
            raise _Damaged("its manifest names files that may not be")
        for layer, path in zip(layers, paths, strict=True):
            if self._blobs.size(layer.hex) != layer.size:
                raise _Damaged(f"its file {path} is missing or has another size")
        text = next((layer for layer, path in zip(layers, paths, strict=True) if path == model_toml.FILE_NAME), None)
        data = self._blobs.read(text) if text else None
        if data is None:
            raise _Damaged(f"its {model_toml.FILE_NAME} is missing or changed")
        spec = model_toml.parse(data)
        if (spec.name, spec.version) != (name, version):
            raise _Damaged(f"its {model_toml.FILE_NAME} is that of {spec.name}:{spec.version}")
        view = self._views.path(name, version, entry.digest)
        self._views.ensure(view, layers)
        size = sum(layer.size for layer in layers)
        return ModelVersion(name, version, entry.digest, size, str(view), spec, added_ms(entry), brought(entry))

    def _manifest(self, entry: Descriptor) -> manifest.Manifest:
        data = self._blobs.read(entry)
        if data is None:
            raise _Damaged("its manifest is missing or changed")
        try:
            return manifest.parse(data)
        except manifest.BadManifest as error:
            raise _Damaged(f"its manifest cannot be read: {error}") from None
