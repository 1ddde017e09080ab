"""What the courier does: ask what is released, and bring one release. Everything here may wait for the network."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from appliance.clock import Clock
from appliance.config import RegistryConfig
from appliance.errors import Cancelled
from appliance.registry.pull import artefact
from appliance.registry.pull.artefact import Places
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.release import Release
from appliance.registry.sources.base import Source
from appliance.registry.trust.releases import Trust
from appliance.registry.trust.verified import Verified
from appliance.registry_rules import LAYOUT
from appliance.store import manifest


class Brought(NamedTuple):
    """All blobs of a release but its manifest ``data`` are in the store."""

    release: Release
    data: bytes


class Errands:
    """Used by the courier's thread, except ``cancel``, ``pinned`` and the figures, which any thread may look at."""

    def __init__(self, config: RegistryConfig, state: Path, places: Places, clock: Clock) -> None:
        self._config = config
        self._cancelled = threading.Event()
        self._source = source_of(config, self._sleep)
        self._places = places
        self._bandwidth = Bandwidth(config.bandwidth_kib_s * 1024, clock)
        self._pinned: frozenset[str] = frozenset()
        self.trust = Trust(state / "trust", self._source, config.prefix, clock)
        self.done_bytes = self.total_bytes = 0

    def pinned(self) -> frozenset[str]:
        """Digests of the blobs that are being brought: not garbage."""
        return self._pinned

    def refresh(self, wanted: Callable[[str], bool]) -> Verified:
        """What is released now. Raises what Trust.refresh raises."""
        self._cancelled.clear()
        return self.trust.refresh(wanted)

    def bring(self, release: Release) -> Brought:
        """Verifies a release's manifest and brings what is missing. Raises what Trust.manifest and artefact.pull raise."""
        self._cancelled.clear()
        data = self.trust.manifest(release)
        missing = artefact.plan(data, self._places.blobs, thorough=True)
        self.done_bytes, self.total_bytes = missing.total - missing.bytes, missing.total
        parsed = manifest.parse(data)
        self._pinned = frozenset(blob.digest for blob in (parsed.config, *parsed.layers))
        artefact.tidy(self._places, [blob.digest for blob in missing.blobs])
        artefact.pull(
            self._source,
            release.repository,
            missing,
            self._places,
            self._bandwidth,
            self._config.parallel,
            self._progress,
            self._cancelled,
        )
        return Brought(release, data)

    def adopted(self) -> None:
        """What was brought is listed, or given up: it needs no pin any more."""
        self._pinned = frozenset()
        self.done_bytes = self.total_bytes = 0

    def cancel(self) -> None:
        """Ends what is being brought; the next time it goes on where it was."""
        self._cancelled.set()

    def _sleep(self, seconds: float) -> None:
        """Between two tries of a request."""
        if self._cancelled.wait(seconds):
            raise Cancelled("the registry was being asked again when that was stopped")

    def _progress(self, done: int, total: int) -> None:
        self.done_bytes, self.total_bytes = done, total


def source_of(config: RegistryConfig, sleep: Callable[[float], None]) -> Source:
    """Where releases come from: the registry, and its mirrors where that is away. ``sleep`` comes between tries."""
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
