"""Reads all that is stored and says what is wrong with it. Changes nothing, and fetches nothing.

Every blob that a version needs is hashed, every name in a view is compared with its blob, and the small files are
compared with what this process wrote. What no version needs is not damage: garbage.py takes it.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import NamedTuple

from appliance import limits
from appliance.errors import ApplianceError
from appliance.osutil import durable
from appliance.store import garbage, manifest, model_rules, model_toml, views_check
from appliance.store.blobs import Tick, sha256_of
from appliance.store.index import Key, added_ms, canonical_entry
from appliance.store.ingest import Progress
from appliance.store.manifest import Descriptor, Manifest
from appliance.store.parts import Parts
from appliance.store.problems import Problem
from appliance.store_questions import StoreReport

_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"

# (inode, size, mtime) of blobs whose bytes were read and are right: not read again within one repair.
Read = dict[str, tuple[int, int, int]]


class Wanted(NamedTuple):
    """A blob that versions need. ``file``: the first one's own name of it, or "manifest" or "config"."""

    blob: Descriptor
    keys: list[Key]
    file: str
    is_manifest: bool = False


class Findings(NamedTuple):
    """What a check found. ``manifests`` are the readable ones."""

    parts: Parts
    problems: tuple[Problem, ...]
    manifests: dict[Key, Manifest]
    wanted: dict[str, Wanted]
    bytes_read: int

    def report(self, *, after_repair: bool = False) -> StoreReport:
        """The answer of a check."""
        state, broken = self.parts.state, garbage.broken(self.parts)
        shown = self.problems[: limits.store_report_entries_max]
        return StoreReport(
            versions=len(self.parts.index.refs),
            blobs=len(self.wanted),
            bytes_read=self.bytes_read,
            problems=tuple(problem.told(state, after_repair=after_repair) for problem in shown),
            problem_count=len(self.problems),
            set_aside=len(broken),
            set_aside_bytes=sum(size for _, size in broken),
        )


def check(parts: Parts, progress: Progress, read: Read | None = None) -> Findings:
    """Looks at everything. Raises OSError only where a folder can't be listed."""
    looking = _Check(parts, progress, {} if read is None else read)
    looking.small_files()
    for key, entry in sorted(parts.index.refs.items()):
        looking.version(key, entry)
    looking.blobs()
    looking.views()
    looking.foreign()
    return Findings(parts, tuple(looking.problems), looking.manifests, looking.wanted, looking.bytes_read)


def blob_fault(path: Path, sha256: str, size: int, tick: Tick) -> tuple[str, str] | None:
    """The kind of problem and what is wrong with a file that should be a blob; None when it is sound."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            return "blob-not-a-file", f"is {_kind_of(status.st_mode)}, not a file"
        if status.st_size != size:
            return "blob-size", f"holds {status.st_size} bytes, {size} are right"
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return "blob-missing", "is missing"
    except OSError as error:
        return "blob-unreadable", f"cannot be read: {error.strerror}"
    with contextlib.ExitStack() as closing:
        closing.callback(os.close, fd)
        try:
            if sha256_of(fd, tick) == sha256:
                return None
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EUCLEAN, errno.EBADMSG):
                raise
            return "blob-unreadable", f"cannot be read: {error.strerror}"
    return "blob-rotten", "has other bytes than its name says"


class _Check:
    """One check under way."""

    def __init__(self, parts: Parts, progress: Progress, read: Read) -> None:
        self._parts = parts
        self._progress = progress
        self._read = read
        self._done = self._total = 0
        self._way_back = {(d.name, d.previous) for d in parts.desired.models.values()}
        self._running = {(d.name, v) for d in parts.desired.models.values() for v in (d.active, *d.beside) if v}
        self.bytes_read = 0
        self.problems: list[Problem] = []
        self.manifests: dict[Key, Manifest] = {}
        self.wanted: dict[str, Wanted] = {}
        self._bad: set[str] = set()

    def small_files(self) -> None:
        """oci-layout, index.json and both copies of desired.json; versions that should run and are not stored."""
        for path, wrong in self._parts.index.faults():
            self._find("index", path, wrong)
        for path, wrong in self._parts.desired.faults():
            self._find("desired", path, wrong)
        for key in sorted(self._running - self._parts.index.refs.keys()):
            path = self._parts.state / "state" / "desired.json"
            self._find("desired-version", path, f"says that {':'.join(key)} should run, which is not stored", (key,))

    def version(self, key: Key, entry: Descriptor) -> None:
        """One entry of the index, and its manifest."""
        path = self._parts.blobs.path(entry.hex)
        index = self._parts.state / "store" / "index.json"
        self.wanted.setdefault(entry.hex, Wanted(entry, [], "manifest", True)).keys.append(key)
        fault = self._blob_fault(entry)
        size = entry.size
        if fault and fault[0] == "blob-size":  # whose size is wrong, the blob's or the entry's?
            size = path.stat().st_size
            if size <= limits.manifest_bytes_max and not blob_fault(path, entry.hex, size, self._tick):
                self._find("index-entry", index, f"{':'.join(key)} has another size than its manifest", (key,))
                fault = None
        if fault:
            self._bad.add(entry.hex)
            self._find(fault[0], path, fault[1], (key,), "manifest", entry)
            return
        try:
            parsed = manifest.parse(path.read_bytes())
        except manifest.BadManifest as error:
            self._find("manifest", path, f"is not the manifest of a model: {error}", (key,), "manifest")
            return
        paths = [manifest.file_path(layer) for layer in parsed.layers]
        if len(set(paths)) != len(paths) or any(map(model_rules.path_problem, paths)):
            self._find("manifest", path, "names files that may not be", (key,), "manifest")
            return
        own = (parsed.annotations.get(_TITLE, ""), parsed.annotations.get(_VERSION, ""))
        if own != key:
            self._find("index-entry", index, f"{':'.join(key)} points at the manifest of {':'.join(own)}", (key,))
        elif entry != canonical_entry(key, entry, added_ms(entry)):
            self._find("index-entry", index, f"the entry of {':'.join(key)} has changed", (key,))
        self.manifests[key] = parsed
        for blob, file in ((parsed.config, "config"), *zip(parsed.layers, paths, strict=True)):
            self.wanted.setdefault(blob.hex, Wanted(blob, [], file)).keys.append(key)

    def blobs(self) -> None:
        """All blobs but the manifests, which have been read."""
        rest = {sha256: wanted for sha256, wanted in self.wanted.items() if not wanted.is_manifest}
        self._total = self._done + sum(wanted.blob.size for wanted in rest.values())
        for sha256, wanted in rest.items():
            fault = self._blob_fault(wanted.blob)
            if fault:
                self._bad.add(sha256)
                path = self._parts.blobs.path(sha256)
                self._find(fault[0], path, fault[1], tuple(wanted.keys), wanted.file, wanted.blob)
        for key, parsed in self.manifests.items():
            self._model_toml(key, parsed)

    def views(self) -> None:
        """All names in all views."""
        linking = views_check.Linking(self._parts)
        for key, parsed in self.manifests.items():
            self._tick(0)
            view = self._parts.views.path(*key, self._parts.index.refs[key].digest)
            layers = tuple(layer for layer in parsed.layers if layer.hex not in self._bad)
            faults = views_check.faults(self._parts, view, parsed.layers, layers, linking, self._tick)
            if faults:
                file, wrong = faults[0]
                more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
                self._find("view", view, f"{file or 'the folder'} {wrong}{more}", (key,), file)

    def foreign(self) -> None:
        """What lies among the store's own files and is not one of them."""
        layout, folder = self._parts.state / "store", self._parts.blobs.folder
        expected = {layout: {"oci-layout", "index.json", "blobs"}, folder.parent: {folder.name}}
        for place in (*expected, folder):
            for entry in os.scandir(place) if place.is_dir() else ():
                is_ours = entry.name in expected.get(place, ()) or (place == folder and manifest.is_hex(entry.name))
                if not is_ours and not durable.is_temp(entry.name) and not garbage.is_set_aside(entry.name):
                    self._find("foreign", Path(entry.path), "does not belong to the store")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _model_toml(self, key: Key, parsed: Manifest) -> None:
        layer = next((x for x in parsed.layers if manifest.file_path(x) == model_toml.FILE_NAME), None)
        if layer is not None and layer.hex in self._bad:
            return
        wrong = "names no model.toml"
        if layer is not None and layer.size <= limits.model_toml_bytes_max:
            try:
                spec = model_toml.parse(self._parts.blobs.path(layer.hex).read_bytes())
                own = (spec.name, spec.version)
                wrong = "" if own == key else f"has the model.toml of {':'.join(own)}"
            except ApplianceError as error:
                wrong = f"has a model.toml that this version cannot use: {error.message}"
        titled = (parsed.annotations.get(_TITLE, ""), parsed.annotations.get(_VERSION, ""))
        if wrong and titled == key:  # else the entry in the index is what is wrong
            path = self._parts.blobs.path(self._parts.index.refs[key].hex)
            self._find("manifest", path, wrong, (key,), model_toml.FILE_NAME)

    def _blob_fault(self, blob: Descriptor) -> tuple[str, str] | None:
        path = self._parts.blobs.path(blob.hex)
        signature = _signature(path)
        if signature is not None and self._read.get(blob.hex) == signature and signature[1] == blob.size:
            self._done += blob.size
            return None
        fault = blob_fault(path, blob.hex, blob.size, self._count)
        if fault is None and signature is not None:
            self._read[blob.hex] = signature
        return fault

    def _find(
        self,
        kind: str,
        path: Path,
        wrong: str,
        keys: tuple[Key, ...] = (),
        file: str = "",
        blob: Descriptor | None = None,
    ) -> None:
        in_use = any(key in self._running or key in self._way_back for key in keys)
        self.problems.append(Problem(kind, path, wrong, keys, file, blob, in_use))

    def _count(self, count: int) -> None:
        self._done += count
        self.bytes_read += count
        self._tick(count)

    def _tick(self, _count: int) -> None:
        self._progress(min(self._done, self._total), self._total)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _kind_of(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISDIR, "a folder"))
    return next((name for test, name in kinds if test(mode)), "something special")
