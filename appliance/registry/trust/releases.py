"""What the box may install: a refresh of the signed metadata, the releases in them, and the manifests that they name."""

import logging
from collections.abc import Callable
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError

from appliance import events, limits
from appliance.clock import Clock
from appliance.osutil import bounded, durable
from appliance.registry.release import Release, role_of, target_path
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Malformed
from appliance.registry.trust import root as roots
from appliance.registry.trust import verdicts
from appliance.registry.trust.clock import ClockFloor, as_datetime
from appliance.registry.trust.failures import BadRoot, Expired, NoRoot, Untrusted
from appliance.registry.trust.fetcher import BASE_URL, RegistryFetcher
from appliance.registry.trust.kept import Kept, KeptSet, read_cache, total_bytes
from appliance.registry.trust.updater import BoxUpdater
from appliance.registry.trust.verified import TOP_FILES, Problem, Verified, read
from appliance.store.aside import take_away
from appliance.store.manifest import digest_of

_log = logging.getLogger(__name__)


def any_line(_line: str) -> bool:
    """For boxes that want every line."""
    return True


class Trust:
    """The TUF client of one box. ``folder`` is its own; ``prefix`` is where the publisher's repositories are.

    One thread, and one object for a folder: the sync process.
    """

    def __init__(self, folder: Path, source: Source, prefix: str, clock: Clock) -> None:
        durable.mkdir(folder)
        self.clock = ClockFloor(folder, clock)
        self._roots = roots.RootStore(folder)
        self._source = source
        self._fetcher = RegistryFetcher(source, prefix, clock)
        self._chain = ""
        self._kept_set: KeptSet | None = None

    def refresh(self, wanted: Callable[[str], bool] = any_line) -> Verified:
        """What is released now, for the lines that are ``wanted``. A line that can't be verified is among the problems.

        Raises NoRoot, Expired, Untrusted, Unreachable, Refused, Malformed, OSError; then nothing new may be installed.
        """
        anchor = self._roots.installed()
        kept_set = self._open(anchor)
        kept = kept_set.get()
        now_s = self.clock.now_s()
        if kept is not None and kept.verified.fresh_until_s <= now_s:
            # Whether or not the registry can be reached: a clock that is set back tomorrow changes nothing about it.
            self.clock.expired(kept.verified.fresh_until_s)
        cache = self._cache(anchor)
        updater = self._update(cache, anchor, kept, now_s)
        files = read_cache(cache, TOP_FILES)
        try:
            lines = self._read(files, kept).lines
        except Untrusted as error:
            # The client takes its cached snapshot without comparing the hash.
            _log.warning(
                "the cached metadata have decayed and are fetched again: %s",
                error.message,
                extra=events.TRUST_SET_ASIDE.of(),
            )
            _restore(cache / "snapshot.json", kept)
            updater = self._update(cache, anchor, kept, now_s)
            files = read_cache(cache, TOP_FILES)
            lines = self._read(files, kept).lines
        problems: list[Problem] = []
        for line in filter(wanted, lines):
            try:
                files.update(self._line_file(updater, line, cache, files, kept))
            except (RepositoryError, DownloadError) as error:
                failure = self._failure(error, cache, now_s)
                problems.append(Problem(line, failure.reason, failure.message))
            except Untrusted as error:
                problems.append(Problem(line, error.reason, error.message))
        return self._finish(kept_set, files, problems, now_s)

    def _update(self, cache: Path, anchor: roots.Anchor, kept: Kept | None, now_s: int) -> BoxUpdater:
        """Runs the client for the top-level roles."""
        self._fetcher.begin()
        bootstrap = anchor.data if kept is None else kept.files["root.json"]
        try:
            updater = BoxUpdater(cache, BASE_URL, self._fetcher, now=as_datetime(now_s), bootstrap=bootstrap)
            updater.refresh()
        except (RepositoryError, DownloadError) as error:
            raise self._failure(error, cache, now_s) from error
        return updater

    def last(self) -> Verified | None:
        """What was released at the last complete refresh, expired or not; None before the first one. Asks nobody.

        Raises NoRoot, OSError.
        """
        kept = self._open(self._roots.installed()).get()
        return kept.verified if kept is not None else None

    def manifest(self, release: Release) -> bytes:
        """The release's OCI manifest, as it was signed. Raises Untrusted, Absent, Unreachable, Refused."""
        try:
            found = self._source.manifest(release.repository, release.digest, bytes_max=release.manifest_bytes)
        except Malformed as error:
            raise self._wrong_manifest(release, error.message) from error
        if found is None or len(found.data) != release.manifest_bytes or digest_of(found.data) != release.digest:
            raise self._wrong_manifest(release, "length or digest differ")
        return found.data

    def root(self) -> roots.Anchor:
        """The installed root of trust. Raises NoRoot, OSError."""
        return self._roots.installed()

    def install(self, data: bytes, *, force: bool = False) -> str:
        """Installs a root of trust that a person has looked at: "installed", "unchanged", "next" or "replaced".

        "next": it continues the chain that is installed. ``force``: also one of another chain, whose releases then are
        the only ones that count. Raises BadRoot (reason OTHER_ROOT without ``force``), OSError.
        """
        roots.inspect(data)
        try:
            anchor = self._roots.installed()
        except NoRoot:
            self._replace(data)
            return "installed"
        history = self._cache(anchor) / "root_history"
        kept = self._open(anchor).get()
        known = [anchor.data, *([kept.files["root.json"]] if kept else []), *_history(history)]
        how = roots.relation(known, data)
        if how == "same":
            self._replace(anchor.data)  # whichever copy was missing
            return "unchanged"
        if how == "next":
            durable.mkdir(history)
            durable.write(history / f"{roots.parse(data).signed.version}.root.json", data, point="trust.root")
            return "next"
        if not force:
            raise BadRoot(
                "another root of trust is installed, and this one is not signed by it: compare the fingerprints, and "
                "replace it with --force only if the publisher has begun anew",
                reason="OTHER_ROOT",
            )
        self._replace(data)
        return "replaced"

    def _replace(self, data: bytes) -> None:
        self._sweep(self._roots.put(data))

    def _sweep(self, anchor: roots.Anchor) -> None:
        try:
            self._roots.sweep(anchor)
        except OSError as error:
            _log.warning(
                "what followed from an earlier root of trust could not be removed: %s",
                error,
                extra=events.TRUST_NOT_KEPT.of(),
            )

    def _open(self, anchor: roots.Anchor) -> KeptSet:
        if self._kept_set is None or self._chain != anchor.chain:
            durable.mkdir(self._cache(anchor))
            self._sweep(anchor)
            self._kept_set = KeptSet(self._roots.chain_folder(anchor), self._cache(anchor))
            self._chain = anchor.chain
        return self._kept_set

    def _cache(self, anchor: roots.Anchor) -> Path:
        return self._roots.chain_folder(anchor) / "metadata"

    def _line_file(
        self, updater: BoxUpdater, line: str, cache: Path, files: dict[str, bytes], kept: Kept | None
    ) -> dict[str, bytes]:
        """The file of a line's role. What is wrong with one line doesn't concern the others."""
        name = f"{role_of(line)}.json"
        # Any path of the line will do: the client loads the role that it is delegated to.
        updater.get_targetinfo(target_path(line, "-"))
        try:
            found = read_cache(cache, [name])
        except FileNotFoundError:
            raise Untrusted(f"the paths of {line} belong to another role than {role_of(line)}") from None
        if total_bytes(files) + total_bytes(found) > limits.tuf_set_bytes_max:
            raise Untrusted(f"all metadata together have more than {limits.tuf_set_bytes_max} bytes")
        self._read({**{top: files[top] for top in TOP_FILES}, **found}, kept)
        return found

    def _read(self, files: dict[str, bytes], kept: Kept | None) -> Verified:
        """Reads files that the client has just verified; most polls bring those that have been read already."""
        if kept is not None and all(kept.files.get(name) == data for name, data in files.items()):
            return kept.verified
        return read(files)

    def _finish(self, kept_set: KeptSet, files: dict[str, bytes], problems: list[Problem], now_s: int) -> Verified:
        kept = kept_set.get()
        verified = kept.verified if kept is not None and kept.files == files else read(files)
        if kept is not None:
            failed = {f"{role_of(problem.line)}.json" for problem in problems}
            files = {**files, **{name: data for name, data in kept.files.items() if name in failed}}
        kept_set.keep(files)
        self.clock.agreed(now_s)
        signed = [role.signed_s for role in verified.roles] + [release.released_s for release in verified.releases]
        self.clock.signed(max(signed), verified.fresh_until_s)
        return verified._replace(problems=(*verified.problems, *problems), at_s=now_s)

    def _failure(self, error: Exception, cache: Path, now_s: int) -> Expired | Untrusted:
        """A refusal of the client as one of ours; an expiry lifts the clock's floor."""
        found = verdicts.failure(error, self._fetcher, cache, now_s)
        if isinstance(found, Expired) and found.role != "root":
            # A root that is expired when a timestamp is fresh is rare, and a clock that is years ahead is not: if the
            # root lifted the floor, nothing would be fresh for a year. The set that it belongs to stays expired by
            # its earliest expiry (refresh).
            self.clock.expired(found.expired_s)
        return found

    def _wrong_manifest(self, release: Release, problem: str) -> Untrusted:
        return Untrusted(
            f"the manifest of {release.line} {release.version} that {self._source.name} has is not the signed one: {problem}"
        )


def _restore(path: Path, kept: Kept | None) -> None:
    """Puts the last verified file of this name in the place of a decayed one, or nothing when there is none."""
    if kept is not None:
        durable.write(path, kept.files[path.name], point="trust.metadata")
    else:
        take_away(path)


def _history(folder: Path) -> list[bytes]:
    """The roots that the client has followed; what has decayed is left out."""
    found = []
    for path in sorted(folder.glob("*.root.json")):
        try:
            data = bounded.read(path, limits.tuf_root_bytes_max)
            roots.parse(data)
        except (OSError, BadRoot):
            continue
        found.append(data)
    return found
