"""The model store: what is stored under which name and version, and what should run. One process writes it.

    <state>/store/     OCI image layout: oci-layout, index.json, blobs/sha256/
    <state>/models/    views (views.py): what engines open
    <state>/state/     desired.json, ballast

Order of an add: blobs, config, manifest, view, and index.json last: before that nothing refers to them, after that
everything is there. Order of a remove: index.json first, then the sweep.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from appliance import semver
from appliance.clock import Clock, SystemClock
from appliance.errors import AlreadyExists, ApplianceError, FailedPrecondition, NotFound
from appliance.osutil import durable
from appliance.questions import Desired, ModelVersion
from appliance.store import disk, ingest, manifest, model_rules, model_toml, near
from appliance.store.blobs import Blobs
from appliance.store.desired import DesiredFile
from appliance.store.index import Index, added_ms
from appliance.store.ingest import Progress, no_progress
from appliance.store.manifest import Descriptor
from appliance.store.views import Views

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

    # --- changing ----------------------------------------------------------------------------------------------------

    def add(self, root: Path, *, consume: bool = False, progress: Progress = no_progress) -> ModelVersion:
        """Stores the model folder ``root``; durable when it returns. The same content again changes nothing.

        ``consume``: the folder is ours and will be thrown away, so its files may become blobs without a copy.
        Raises InvalidArgument (MODEL_TOML, MODEL_FILES), AlreadyExists (VERSION_EXISTS) or ResourceExhausted
        (DISK_FULL); whatever it raises, the index is what it was, and blobs that are whole may be left for a next try.
        """
        plan = ingest.plan(root, self._blobs, consume=consume, progress=progress)
        name, version = plan.folder.spec.name, plan.folder.spec.version
        known = self._index.refs.get((name, version))
        if known and known.digest != plan.artefact.digest:
            raise AlreadyExists(
                f'model "{name}" version "{version}" is stored already, with other content: raise the version number',
                reason="VERSION_EXISTS",
            )
        disk.check_room(self._state, plan.needed_bytes)
        with disk.full_is_refused(self._state, plan.needed_bytes):
            ingest.carry_out(plan, self._blobs, progress)
            layers = plan.artefact.manifest.layers
            self._views.ensure(self._views.path(name, version, plan.artefact.digest), layers)
            if not known:
                added = self._clock.wall_ns() // 1_000_000
                self._change_index(lambda: self._index.set(name, version, plan.artefact.descriptor, added))
        if (name, version) not in self._models and not self._open(name, version):
            raise OSError("a version that was just stored cannot be read back")
        return self._models[name, version]

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
            _log.exception("cleaning up after a removal failed; the next sweep tries again")

    def set_desired(self, desired: Desired) -> None:
        """Makes this what should run of one model, durably. Raises NotFound for a version that isn't stored."""
        for version in filter(None, (desired.active, *desired.beside)):
            self.get(desired.name, version)
        self._write_small(lambda: self._desired.set(desired))

    def sweep(self) -> None:
        """Removes blobs and views that no version needs, and what a crash left half-written."""
        for folder in (self._state / "store", self._state / "state"):
            for path in folder.iterdir():
                if durable.is_temp(path.name):
                    path.unlink()
        used: set[str] = set()
        complete = True
        for key, entry in self._index.refs.items():
            used.add(entry.hex)
            try:
                parsed = self._manifest(entry)
            except _Damaged:
                complete = False
                _log.warning(
                    "%s has no readable manifest: unused blobs are kept until it is added again or removed", key
                )
            else:
                used.update(blob.hex for blob in (parsed.config, *parsed.layers))
        self._views.remove_unused({Path(model.folder) for model in self._models.values()})
        if complete:
            freed = self._blobs.remove_unused(used)
            if freed:
                _log.info("removed %d bytes of blobs that no model needs", freed)
        self._ballast.take_on()

    # --- inside ------------------------------------------------------------------------------------------------------

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
            _log.error(
                "stored model %s:%s is damaged and not served (%s): add its folder again, or remove it",
                name,
                version,
                error,
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
        return ModelVersion(name, version, entry.digest, size, str(view), spec, added_ms(entry))

    def _manifest(self, entry: Descriptor) -> manifest.Manifest:
        data = self._blobs.read(entry)
        if data is None:
            raise _Damaged("its manifest is missing or changed")
        try:
            return manifest.parse(data)
        except manifest.BadManifest as error:
            raise _Damaged(f"its manifest cannot be read: {error}") from None
