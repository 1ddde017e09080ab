"""What an update needs of the disk, and which versions go so that it fits. Counted in blobs: versions share them.

A version that goes frees only what nothing else needs, and what the update brings again stays: it need not be fetched.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from appliance import limits
from appliance.registry.sync.facts import Blob, Facts, Line, Stored


class Need(NamedTuple):
    """Of one update. ``fetch_bytes`` come over the network; ``disk_bytes`` more are on the disk afterwards."""

    fetch_bytes: int
    disk_bytes: int


class Fit(NamedTuple):
    """``removals`` make room, in this order. ``missing_bytes`` above 0: even then it doesn't fit, and nothing goes."""

    removals: tuple[Stored, ...] = ()
    missing_bytes: int = 0


class Disk:
    """The store's disk while a plan is made: each update that is planned takes its room from the next one."""

    def __init__(self, facts: Facts, kept: Collection[tuple[str, str]]) -> None:
        self._stored = list(facts.stored)
        self._extra = set(facts.loose)
        self._partial = facts.partial
        self._kept = frozenset(kept)
        self._used = sum(blob.bytes for blob in self._all()) + sum(facts.partial.values())
        self._free = facts.free_bytes
        self._max = facts.policy.disk_bytes_max

    def need(self, wanted: frozenset[Blob] | None, release_bytes: int) -> Need:
        """What is missing of an update; all of it where its manifest is not known yet."""
        if wanted is None:
            return Need(release_bytes, release_bytes + limits.sync_overhead_bytes)
        missing = wanted - self._all()
        whole = sum(blob.bytes for blob in missing)
        begun = sum(min(self._partial.get(blob.digest, 0), blob.bytes) for blob in missing)
        return Need(whole - begun, whole - begun + limits.sync_overhead_bytes)

    def fit(self, need: Need, wanted: frozenset[Blob] | None) -> Fit:
        """What has to go first. Of what may go, the oldest."""
        may_go = [s for s in self._stored if s.brought and (s.line, s.version) not in self._kept]
        may_go.sort(key=lambda stored: (stored.added_s, stored.line, stored.version))
        gone: list[Stored] = []
        while (missing := self._missing(need, gone, wanted)) > 0:
            if len(gone) == len(may_go):
                return Fit((), missing)
            gone.append(may_go[len(gone)])
        # An older one may have freed nothing that counts: what it holds, others hold too.
        for stored in reversed(gone[:]):
            rest = [other for other in gone if other is not stored]
            if self._missing(need, rest, wanted) <= 0:
                gone = rest
        return Fit(tuple(gone))

    def take(self, need: Need, fit: Fit, wanted: frozenset[Blob] | None) -> None:
        """An update is planned: what goes is gone, what it brings is there."""
        before = self._all()
        self._stored = [stored for stored in self._stored if stored not in fit.removals]
        self._extra |= wanted or set()
        freed = sum(blob.bytes for blob in before - self._all())
        self._used += need.disk_bytes - freed
        self._free += freed - need.disk_bytes

    def _missing(self, need: Need, gone: list[Stored], wanted: frozenset[Blob] | None) -> int:
        """Bytes by which an update is too large when these are gone; 0 or less when it fits."""
        rest = _blobs(stored for stored in self._stored if stored not in gone) | self._extra | (wanted or set())
        freed = sum(blob.bytes for blob in _blobs(gone) - rest)
        more = need.disk_bytes - freed
        short = more - (self._free - limits.sync_free_bytes_min)
        return max(short, self._used + more - self._max) if self._max else short

    def _all(self) -> set[Blob]:
        return _blobs(self._stored) | self._extra


def kept(
    stored: Iterable[Stored], lines: Mapping[str, Line], pins: Mapping[str, str], keep: int
) -> set[tuple[str, str]]:
    """(line, version) of what never goes: what is in use, pinned, or one of the ``keep`` versions to go back to."""
    found = set()
    by_line: dict[str, list[Stored]] = {}
    for version in stored:
        by_line.setdefault(version.line, []).append(version)
    for name, versions in by_line.items():
        line = lines.get(name, Line())
        always = {line.active, pins.get(name, ""), *line.in_use}
        # The one that was active before first, then those that came last.
        before = sorted(
            (v for v in versions if v.version != line.active),
            key=lambda v: (v.version != line.previous, -v.added_s, v.version),
        )
        always |= {v.version for v in before[:keep]}
        found |= {(name, v.version) for v in versions if v.version in always}
    return found


def _blobs(stored: Iterable[Stored]) -> set[Blob]:
    return set().union(*(version.blobs for version in stored))
