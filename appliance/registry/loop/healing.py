"""Blobs that have rotted or are gone, fetched back for a repair of the store: from where their line is released, by digest.

A thread of its own waits for the network, the work loop for the thread, and it beats meanwhile. It has a source, a folder
and a bound on time of its own, so that it meets an update under way in nothing but the bandwidth.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from appliance import limits
from appliance.clock import Clock
from appliance.config import RegistryConfig
from appliance.errors import ApplianceError, Cancelled, NotFound
from appliance.osutil import durable
from appliance.registry.bundle.stick import open_stick
from appliance.registry.loop.errands import source_of
from appliance.registry.pull import artefact
from appliance.registry.pull.artefact import Missing, Places
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.release import Release
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Absent, Malformed
from appliance.store import manifest
from appliance.store.blobs import Blobs, Tick
from appliance.store.index import Key
from appliance.store.manifest import Descriptor
from appliance.sync_questions import Visit

_log = logging.getLogger(__name__)
_FOLDER = "healing"
_BEAT_S = 0.1

# Makes the sources, the first one to be asked first; what it is given waits between two tries.
Sources = Callable[[Callable[[float], None]], Sequence[Source]]


class Healer:
    """``fetch`` is for Store.heal_with. ``known``: the releases that were verified last; ``refs``: what the store lists."""

    def __init__(
        self,
        state: Path,
        blobs: Blobs,
        sources: Sources,
        bandwidth: Bandwidth,
        known: Callable[[], Sequence[Release]],
        refs: Callable[[], Mapping[Key, Descriptor]],
        clock: Clock,
    ) -> None:
        self._places = Places(state / _FOLDER, blobs)
        self._sources = sources
        self._bandwidth = bandwidth
        self._known = known
        self._refs = refs
        self._clock = clock
        self._cancelled = threading.Event()

    def fetch(self, blob: Descriptor, names: frozenset[str], tick: Tick) -> bool:
        """Brings a blob that versions of ``names`` need. ``tick`` is called while it waits.

        Raises NotFound NO_RELEASE, OSError, what sources raise, and what ``tick`` raises, after which nothing more comes.
        """
        repositories = repositories_of(names, self._known())
        if not repositories:
            raise NotFound(
                f"nothing of {', '.join(sorted(names)) or 'it'} is released, as far as is known here, so there is nowhere "
                "to fetch it from",
                reason="NO_RELEASE",
            )
        self._cancelled.clear()
        errors: list[BaseException] = []
        worker = threading.Thread(target=self._run, args=(blob, repositories, errors), name="healing", daemon=True)
        until_ns = self._clock.monotonic_ns() + limits.heal_blob_s_max * 1_000_000_000
        worker.start()
        try:
            while worker.is_alive():
                worker.join(_BEAT_S)
                tick(0)
                if self._clock.monotonic_ns() > until_ns:
                    self._cancelled.set()  # and it is waited for: the next blob needs the folder
        except BaseException:
            self._cancelled.set()
            raise
        if errors:
            raise errors[0]
        return True

    def _run(self, blob: Descriptor, repositories: Sequence[str], errors: list[BaseException]) -> None:
        try:
            self._tidy(blob)
            self._from_any(blob, repositories)
        except BaseException as error:
            errors.append(error)

    def _from_any(self, blob: Descriptor, repositories: Sequence[str]) -> None:
        """The first source that has it. Raises what the first one raised that may have it."""
        failure: ApplianceError = Absent(f"nobody has {blob.digest}")
        for source in self._sources(self._sleep):
            for repository in repositories:
                try:
                    self._from(source, repository, blob)
                except Cancelled:
                    raise
                except ApplianceError as error:
                    _log.info("%s does not come from %s: %s", blob.digest, source.name, error.message)
                    failure = error if isinstance(failure, Absent) else failure
                else:
                    return
        raise failure

    def _from(self, source: Source, repository: str, blob: Descriptor) -> None:
        if blob.media_type != manifest.MANIFEST_TYPE:
            missing, places = Missing((blob,), blob.size), self._places
            artefact.pull(source, repository, missing, places, self._bandwidth, 1, _unseen, self._cancelled)
            return
        found = source.manifest(repository, blob.digest, bytes_max=limits.manifest_bytes_max)
        if found is None or manifest.digest_of(found.data) != blob.digest:
            raise Malformed(f"the manifest {blob.digest} that {source.name} has is another one")
        self._places.blobs.put(found.data)

    def _tidy(self, blob: Descriptor) -> None:
        """Partial files stay for the next repair, as long as a stored version needs them."""
        durable.mkdir(self._places.state)
        wanted = {blob.digest}
        for entry in self._refs().values():
            try:
                parsed = manifest.parse(self._places.blobs.read(entry) or b"")
            except manifest.BadManifest:
                continue
            wanted.update(each.digest for each in parsed.blobs)
        artefact.tidy(self._places, wanted)

    def _sleep(self, seconds: float) -> None:
        if self._cancelled.wait(seconds):
            raise Cancelled("the download was stopped; it goes on where it was")


def sources_of(config: RegistryConfig, sleep: Callable[[float], None], visit: Visit | None) -> list[Source]:
    """The registry with its mirrors, and then the stick that was brought last, if it is still there."""
    found = [source_of(config, sleep)]
    if visit is not None:
        try:
            found.append(open_stick(Path(visit.path)))
        except ApplianceError as error:
            _log.info("nothing is fetched from the last stick: %s", error.message)
    return found


def repositories_of(names: frozenset[str], known: Sequence[Release]) -> list[str]:
    """Where blobs of these models may be: the repositories of their lines, withdrawn versions of which are there, too."""
    newest_first = sorted((each for each in known if each.line in names), key=lambda each: -each.counter)
    return list(dict.fromkeys(each.repository for each in newest_first))


def _unseen(_done: int, _total: int) -> None:
    """The operator sees the repair's own progress."""
