"""Heals a store: what check.py finds, round by round, because only a readable manifest tells of its blobs.

A blob comes back from a view that still has its bytes, is made anew from the other files (manifest, config), or is
fetched. What is corrupt stays under NAME.broken. A blob of a version that should run, or of the one before it, is never
taken away, however rotten: its engine goes on with what it has open, and could not start again without it.
"""

import contextlib
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from appliance import events, limits
from appliance.errors import ApplianceError
from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.store import anew, aside, disk, manifest, views_check
from appliance.store.blobs import BLOB_MODE, Tick
from appliance.store.check import Findings, Read, blob_fault, check
from appliance.store.index import added_ms
from appliance.store.ingest import Progress
from appliance.store.manifest import Descriptor, Manifest
from appliance.store.parts import Parts
from appliance.store.problems import BLOB_KINDS, Problem
from appliance.store_questions import StoreReport

_log = logging.getLogger(__name__)

# (blob, names of the models that need it, to be called while it waits): brings a blob into the store (Blobs.copy,
# Blobs.take, Blobs.put) and says whether it could. It may raise an ApplianceError or OSError, whose text the operator gets.
Fetch = Callable[[Descriptor, frozenset[str], Tick], bool]

# Index, manifests, blobs, views: each may only show what is wrong with the next. A change of an entry of the index has a
# round of its own.
_ROUNDS_MAX = 5


def no_fetch(_blob: Descriptor, _names: frozenset[str], _tick: Tick) -> bool:
    """For a store that has nowhere to fetch from."""
    return False


def repair(parts: Parts, fetch: Fetch, progress: Progress) -> StoreReport:
    """Heals what can be healed and checks again. Raises OSError; what was healed by then stays so."""
    return _Repair(parts, fetch, progress).run()


class _Repair:
    """One repair under way."""

    def __init__(self, parts: Parts, fetch: Fetch, progress: Progress) -> None:
        self._parts = parts
        self._fetch = fetch
        self._progress = progress
        self._read: Read = {}
        self._shown = (0, 0)
        self._tried: set[str] = set()
        self._excuses: dict[Path, str] = {}
        self._findings: Findings

    def run(self) -> StoreReport:
        first = self._check()
        bytes_read = first.bytes_read
        done: dict[object, tuple[Problem, str]] = {}
        for _ in range(_ROUNDS_MAX + 2 * len(self._parts.index.refs)):
            acted = self._round()
            if not acted:
                break
            for problem, how in acted:
                done[problem.identity] = (done.get(problem.identity, (problem, ""))[0], how)
            bytes_read += self._check().bytes_read
        for problem in self._findings.problems:
            if problem.kind in BLOB_KINDS - {"blob-missing"} and not problem.in_use:
                aside.take_away(problem.path)
        last = self._check()
        left = {problem.identity for problem in last.problems}
        healed = [(p, how) for identity, (p, how) in done.items() if identity not in left]
        for problem, how in healed:
            _log.warning(
                "repaired: %s %s: %s",
                self._parts.place(problem.path),
                problem.wrong,
                how,
                extra=events.STORE_REPAIRED.of(),
            )
        report = last.report(after_repair=True)
        report.bytes_read += bytes_read
        report.healed = tuple(
            p.told(self._parts.state, todo=how) for p, how in healed[: limits.store_report_entries_max]
        )
        report.healed_count = len(healed)
        report.problems = tuple(
            p.told(self._parts.state, todo=self._excuses.get(p.path, ""), after_repair=True)
            for p in last.problems[: limits.store_report_entries_max]
        )
        return report

    def _round(self) -> list[tuple[Problem, str]]:
        """Acts on what the last check found, up to a change of the index, after which all may look different."""
        acted = []
        refs = self._parts.index.refs
        for problem in self._findings.problems:
            how = self._heal(problem)
            if how:
                acted.append((problem, how))
            if self._parts.index.refs is not refs:
                break
        return acted

    def _check(self) -> Findings:
        self._findings = check(self._parts, self._show, self._read)
        return self._findings

    def _show(self, done: int, total: int) -> None:
        self._shown = (done, total)
        self._progress(done, total)

    def _tick(self, _count: int) -> None:
        self._progress(*self._shown)

    # --- one problem -------------------------------------------------------------------------------------------------

    def _heal(self, problem: Problem) -> str:
        """What was done about it; empty when nothing could be."""
        self._tick(0)
        try:
            if problem.kind in BLOB_KINDS:
                return self._blob(problem)
            heal = {
                "index": self._index,
                "index-entry": self._entry,
                "desired": self._desired,
                "view": self._view,
                "foreign": self._foreign,
            }.get(problem.kind)
            return heal(problem) if heal else ""
        except OSError as error:
            if disk.is_full(error):
                raise
            self._excuses[problem.path] = f"it could not be repaired: {error.strerror or error}"
            _log.warning(
                "%s could not be repaired: %s", self._parts.place(problem.path), error, extra=events.STORE_REPAIRED.of()
            )
            return ""

    def _index(self, _problem: Problem) -> str:
        self._parts.index.write_again()
        return "written again"

    def _desired(self, _problem: Problem) -> str:
        refs = self._parts.index.refs
        self._parts.desired.write_again(lambda name, version: (name, version) in refs)
        return "written again"

    def _foreign(self, problem: Problem) -> str:
        return f"renamed to {durable.set_aside(problem.path).name}"

    def _view(self, problem: Problem) -> str:
        (key,) = problem.keys
        layers = self._findings.manifests[key].layers
        bad = {p.blob.hex for p in self._findings.problems if p.blob is not None}
        sound = tuple(layer for layer in layers if layer.hex not in bad)
        views_check.mend(self._parts, problem.path, layers, sound)
        return "linked to the blobs again"

    def _entry(self, problem: Problem) -> str:
        """An entry of the index that does not fit its manifest: the manifest is right, its bytes are what its digest says."""
        (key,) = problem.keys
        index = self._parts.index
        entry = index.refs[key]
        size = self._parts.blobs.size(entry.hex)
        data = self._parts.blobs.read(Descriptor(manifest.MANIFEST_TYPE, entry.digest, size))
        own = self._own_key(manifest.parse(data)) if data else None
        if own is None or (own != key and own in index.refs):
            return ""
        index.replace(
            key,
            own,
            Descriptor(manifest.MANIFEST_TYPE, entry.digest, size, annotations=entry.annotations),
            added_ms(entry),
        )
        return "corrected after the manifest"

    @staticmethod
    def _own_key(parsed: Manifest) -> tuple[str, str] | None:
        name = parsed.annotations.get("org.opencontainers.image.title", "")
        version = parsed.annotations.get("org.opencontainers.image.version", "")
        return (name, version) if name and version else None

    # --- blobs -------------------------------------------------------------------------------------------------------

    def _blob(self, problem: Problem) -> str:
        blob = problem.blob
        assert blob is not None  # every problem of a blob says which
        if any(self._link_in(source, blob) for source in self._views_of(blob)):
            return f"taken from a view that still had it{_reload(problem)}"
        data = self._made_anew(problem, blob)
        if data is not None:
            aside.keep_aside(problem.path)
            durable.write(problem.path, data, mode=BLOB_MODE, point="store.blob_again")
            return "made anew from the model's files"
        if blob.hex not in self._tried:  # a second try in the same repair would fail as the first did
            self._tried.add(blob.hex)
            if self._fetched(problem, blob):
                return f"fetched again{_reload(problem)}"
        return self._another_manifest(problem, blob)

    def _views_of(self, blob: Descriptor) -> Iterator[Path]:
        """Where a view might still have the bytes of a blob that is gone or rotten."""
        for key, parsed in self._findings.manifests.items():
            view = self._parts.views.path(*key, self._parts.index.refs[key].digest)
            for layer in parsed.layers:
                if layer.hex == blob.hex:
                    yield view / manifest.file_path(layer)

    def _link_in(self, source: Path, blob: Descriptor) -> bool:
        """Gives a file of a view the blob's name, if it has the blob's bytes; one that others may write is copied."""
        target = self._parts.blobs.path(blob.hex)
        try:
            status = source.lstat()
            if os.path.lexists(target) and target.lstat().st_ino == status.st_ino:
                return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        if blob_fault(source, blob.hex, blob.size, self._tick):
            return False
        aside.keep_aside(target)
        if stat.S_IMODE(status.st_mode) != BLOB_MODE:
            fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return self._parts.blobs.copy(fd, blob.hex, self._tick)
            finally:
                os.close(fd)
        temp = durable.temp_beside(target)
        with contextlib.suppress(FileNotFoundError):
            temp.unlink()
        fault_point("store.repair.link")
        os.link(source, temp, follow_symlinks=False)
        fault_point("store.repair.rename")
        durable.rename(temp, target)
        return True

    def _made_anew(self, problem: Problem, blob: Descriptor) -> bytes | None:
        """The bytes of a manifest or config, which follow from the model's other files."""
        for key in problem.keys:
            parsed = self._findings.manifests.get(key)
            entry = self._parts.index.refs[key]
            artefact = None
            if parsed is not None and parsed.config.hex == blob.hex:
                artefact = anew.from_layers(parsed, self._parts.blobs)
            elif entry.hex == blob.hex:
                artefact = anew.from_view(self._parts.views.path(*key, entry.digest), self._tick)
            for data in (artefact.manifest_bytes, artefact.config_bytes) if artefact else ():
                if manifest.digest_of(data) == blob.digest:
                    return data
        return None

    def _fetched(self, problem: Problem, blob: Descriptor) -> bool:
        kept = aside.keep_aside(problem.path) if problem.kind != "blob-missing" else None
        why = ""
        try:
            fault_point("store.repair.fetch")
            came = self._fetch(blob, frozenset(name for name, _ in problem.keys), self._tick)
        except (ApplianceError, OSError) as error:
            came, why = False, error.message if isinstance(error, ApplianceError) else error.strerror or str(error)
            _log.warning(
                "blob %s could not be fetched again: %s", blob.hex, error, extra=events.STORE_NOT_REPAIRED.of()
            )
        if came and blob_fault(problem.path, blob.hex, blob.size, self._tick) is None:
            return True
        if why:
            todo = "try again later, or add the model folder again: `appliance models add FOLDER`"
            self._excuses[problem.path] = f"it could not be fetched ({why}): {todo}"
        if kept is not None and problem.path.is_file() and kept.lstat().st_ino == problem.path.lstat().st_ino:
            kept.unlink()  # it was not replaced, so it has not become evidence yet
        return False

    def _another_manifest(self, problem: Problem, blob: Descriptor) -> str:
        """An entry of the index whose digest has changed on the disk: its manifest is there under the right digest."""
        index = self._parts.index
        for key in problem.keys:
            entry = index.refs[key]
            found = index.rebuilt().get(key) if entry.hex == blob.hex else None
            if found is not None and found.hex != entry.hex:
                index.replace(key, key, found, added_ms(entry))
                return "the index points at its manifest again"
        return ""


def _reload(problem: Problem) -> str:
    """What an operator must know of a healed file that an engine may have open as it was."""
    if not problem.in_use or problem.kind == "blob-missing":
        return ""
    return "; engines that run keep the old file until the version is deactivated and activated"
