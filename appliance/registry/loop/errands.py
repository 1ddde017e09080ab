"""What the courier does: ask what is released, look what one release is made of, and bring it. All of it may wait long."""

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from appliance import limits
from appliance.clock import Clock
from appliance.config import RegistryConfig
from appliance.errors import ApplianceError, Cancelled
from appliance.registry.pull import artefact
from appliance.registry.pull.artefact import Missing, Places
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.release import Release
from appliance.registry.sources.base import Source
from appliance.registry.sources.nowhere import Nowhere
from appliance.registry.sources.turned import Turned
from appliance.registry.trust.releases import Trust
from appliance.registry.trust.verified import Verified
from appliance.registry_rules import LAYOUT, OFFLINE
from appliance.store import disk
from appliance.store.index import Key
from appliance.store.manifest import Descriptor

if TYPE_CHECKING:
    from appliance.registry.loop.deltas import Deltas

_log = logging.getLogger(__name__)


class Looked(NamedTuple):
    """The manifest of a release: what it is made of."""

    release: Release
    data: bytes


class Brought(NamedTuple):
    """All blobs of a release but its manifest ``data`` are in the store. ``saved_bytes``: what a delta did not fetch."""

    release: Release
    data: bytes
    saved_bytes: int = 0


class Errands:
    """Used by the courier's thread, except ``cancel`` and the figures, which any thread may look at."""

    def __init__(
        self,
        config: RegistryConfig,
        state: Path,
        places: Places,
        clock: Clock,
        refs: Callable[[], Mapping[Key, Descriptor]] = dict,
    ) -> None:
        """``refs``: what the store lists, asked in the courier's thread."""
        self._config = config
        self._refs = refs
        # From a folder on this machine everything is read, which takes no longer than reading seeds.
        self._is_far = not config.url.startswith(LAYOUT)
        self._cancelled = threading.Event()
        self._source = Turned(source_of(config, self._sleep))
        self._places = places
        self.bandwidth = Bandwidth(config.bandwidth_kib_s * 1024, clock)
        # The releases that were verified last, for whoever heals the store.
        self.known: tuple[Release, ...] = ()
        self._looked: Looked | None = None
        self.trust = Trust(state / "trust", self._source, config.prefix, clock)
        self.done_bytes = self.total_bytes = 0

    def refresh(self, wanted: Callable[[str], bool]) -> Verified:
        """What is released now. Raises what Trust.refresh raises."""
        self._cancelled.clear()
        verified = self.trust.refresh(wanted)
        self.known = verified.releases
        return verified

    def last(self) -> Verified | None:
        """What was released at the last refresh, None before the first one. Asks nobody."""
        try:
            verified = self.trust.last()
        except (ApplianceError, OSError) as error:
            _log.info("no earlier metadata: %s", error)
            return None
        self.known = verified.releases if verified is not None else ()
        return verified

    def turn_to(self, stick: Source | None) -> None:
        """From now on everything comes from ``stick``, None: from the registry again."""
        self._source.turn_to(stick)

    def look(self, release: Release) -> Looked:
        """Fetches a release's manifest. Raises what Trust.manifest raises."""
        self._cancelled.clear()
        self._looked = Looked(release, self.trust.manifest(release))
        return self._looked

    def bring(self, release: Release) -> Brought:
        """Verifies a release's manifest and brings what is missing. Raises what Trust.manifest and artefact.pull raise."""
        self._cancelled.clear()
        looked = self._looked
        data = looked.data if looked and looked.release == release else self.trust.manifest(release)
        missing = artefact.plan(data, self._places.blobs, thorough=True)
        self.done_bytes, self.total_bytes = missing.total - missing.bytes, missing.total
        wanted = [blob.digest for blob in missing.blobs]
        delta = self._delta(release, missing)
        if delta is None or disk.free_bytes(self._places.state) < missing.bytes + limits.sync_free_bytes_min:
            artefact.tidy(self._places, wanted)  # else partial files of other releases are seeds until it is whole
        artefact.pull(
            self._source,
            release.repository,
            missing,
            self._places,
            self.bandwidth,
            self._config.parallel,
            self._progress,
            self._cancelled,
            delta.prepare if delta is not None else None,
        )
        artefact.tidy(self._places, wanted)
        saved = delta.saved_bytes if delta is not None else 0
        if saved:
            _log.info("%s %s: %d bytes of %d were not fetched", release.line, release.version, saved, missing.bytes)
        return Brought(release, data, saved)

    def adopted(self) -> None:
        """What was brought is listed, or given up: there is nothing to show any more."""
        self.done_bytes = self.total_bytes = 0

    def cancel(self) -> None:
        """Ends what is being brought; the next time it goes on where it was."""
        self._cancelled.set()

    def _delta(self, release: Release, missing: Missing) -> "Deltas | None":
        if release.chunks is None or self._source.is_turned or not self._is_far:
            return None
        from appliance.registry.loop import deltas

        return deltas.begin(self._source, release, missing, self._places, self._refs(), self._pace)

    def _pace(self, count: int) -> None:
        self.bandwidth.take(count, self._cancelled.is_set)
        if self._cancelled.is_set():
            raise Cancelled("the download was stopped; it goes on where it was")

    def _sleep(self, seconds: float) -> None:
        """Between two tries of a request."""
        if self._cancelled.wait(seconds):
            raise Cancelled("the registry was being asked again when that was stopped")

    def _progress(self, done: int, total: int) -> None:
        self.done_bytes, self.total_bytes = done, total


def source_of(config: RegistryConfig, sleep: Callable[[float], None]) -> Source:
    """Where releases come from: the registry, and its mirrors where that is away. ``sleep`` comes between tries."""
    if config.url == OFFLINE:
        return Nowhere()
    places = [_place(config, url, sleep) for url in (config.url, *config.mirrors)]
    if len(places) == 1:
        return places[0]
    from appliance.registry.http.mirrors import Mirrors

    return Mirrors(places)


def _place(config: RegistryConfig, url: str, sleep: Callable[[float], None]) -> Source:
    if url.startswith(LAYOUT):
        from appliance.registry.sources.layout import LayoutSource

        return LayoutSource(Path(url.removeprefix(LAYOUT)))
    from appliance.registry.http.options import HttpOptions, Means
    from appliance.registry.http.source import HttpSource

    options = HttpOptions(
        url=url,
        ca=config.ca,
        certificate=config.certificate,
        key=config.key,
        credentials=config.credentials,
        proxy=config.proxy,
    )
    return HttpSource(options, Means(sleep=sleep))
