"""Carrying a publisher's releases and metadata from any registry onto a stick, and saying what the stick then has.

What is carried is verified as a machine would verify it, from a root of trust on, and once more as it lies on the stick.
A stick may hold several publishers' or sites' prefixes, which share blobs. A run that broke off is completed by the next.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.clock import Clock
from appliance.errors import AlreadyExists, FailedPrecondition, ResourceExhausted
from appliance.publish.bundle import choose, newer
from appliance.registry.bundle.export import Progress, export
from appliance.registry.release import Release
from appliance.registry.sources.base import Source
from appliance.registry.sources.layout import LayoutSource
from appliance.registry.sources.layout_target import LayoutTarget
from appliance.registry.trust.releases import Trust
from appliance.registry.trust.verified import Verified
from appliance.store import disk

# The registry may move on while it is read; a publisher doesn't release that often.
_TRIES = 3
# The index and the metadata, with what a file system rounds up.
_METADATA_BYTES = 4 * 1024 * 1024


class Wish(NamedTuple):
    """What is to be carried. ``root``: whose signatures count. ``lines``: LINE or LINE:VERSION, none: all."""

    prefix: str
    root: bytes
    lines: tuple[str, ...] = ()
    channel: str = ""


class CarriedRelease(msgspec.Struct, frozen=True):
    """A release on the stick; ``bytes`` of its files."""

    line: str
    version: str
    channels: tuple[str, ...]
    digest: str
    bytes: int


class Carried(msgspec.Struct, frozen=True):
    """What the stick has of one prefix. ``fresh_until_s`` (Unix time): after that no machine takes anything new from it.

    ``stick_bytes``: of all that the folder holds, other prefixes included.
    """

    prefix: str
    releases: tuple[CarriedRelease, ...]
    bytes: int
    metadata_files: int
    root_version: int
    timestamp_version: int
    fresh_until_s: int
    stick_bytes: int


def carry(source: Source, folder: Path, wish: Wish, clock: Clock, progress: Progress) -> Carried:
    """Makes the layout in ``folder`` hold what is wished; what it has already is not sent again.

    Lines of the prefix that earlier runs brought are brought up to date as well: the new timestamp speaks of them, too.
    Raises NotFound, FailedPrecondition (expired or untrusted metadata), AlreadyExists STICK_NEWER or STICK_OTHER,
    ResourceExhausted STICK_FULL, Unreachable, Refused, Malformed.
    """
    stick = LayoutSource(folder)
    newer.check(source, stick, wish.prefix)
    earlier = newer.lines(stick, wish.prefix)
    for _ in range(_TRIES):
        with tempfile.TemporaryDirectory(prefix="appliance-bundle-") as scratch:
            trust = _trust(Path(scratch), source, wish, clock)
            verified = trust.refresh(lambda line: line in earlier or choose.is_wanted(line, wish.lines))
            releases = _chosen(verified, wish, earlier, trust.clock.now_s())
            _check_room(folder, releases)
            done = export(source, LayoutTarget(folder), wish.prefix, releases, trust.manifest, progress)
        on_stick = look(stick, wish, clock, {release.line for release in releases})
        # Lines without a release are not carried.
        if set(on_stick.roles) <= set(verified.roles):
            return _carried(folder, wish.prefix, releases, on_stick, done.metadata_files)
    raise FailedPrecondition(
        f"{source.name} changes while it is read: try again when nobody publishes", reason="REGISTRY_CHANGES"
    )


def look(stick: Source, wish: Wish, clock: Clock, lines: set[str]) -> Verified:
    """What a machine with the same root of trust sees on the stick. Raises as Trust.refresh does."""
    with tempfile.TemporaryDirectory(prefix="appliance-bundle-") as scratch:
        verified = _trust(Path(scratch), stick, wish, clock).refresh(lambda line: line in lines)
    _check_problems(verified)
    return verified


def _trust(folder: Path, source: Source, wish: Wish, clock: Clock) -> Trust:
    trust = Trust(folder, source, wish.prefix, clock)
    trust.install(wish.root)
    return trust


def _chosen(verified: Verified, wish: Wish, earlier: frozenset[str], now_s: int) -> tuple[Release, ...]:
    _check_problems(verified)
    releases = verified.releases
    chosen = {(r.line, r.counter): r for r in choose.choose(releases, wish.lines, wish.channel, now_s)}
    again = sorted(earlier & {release.line for release in releases})
    for line in again:
        if not choose.is_wanted(line, wish.lines):
            chosen.update({(r.line, r.counter): r for r in choose.choose(releases, (line,), "", now_s)})
    if not chosen:
        raise FailedPrecondition(f"nothing is released below {wish.prefix or 'the top'}", reason="NOTHING_RELEASED")
    return tuple(chosen[key] for key in sorted(chosen))


def _check_problems(verified: Verified) -> None:
    for problem in verified.problems:
        raise FailedPrecondition(
            f"the releases of {problem.line or 'a line'} cannot be carried: {problem.message}", reason=problem.reason
        )


def _check_room(folder: Path, releases: Sequence[Release]) -> None:
    """Before hours of copying; blobs that are there already count as room. Shared ones are counted twice."""
    place = folder
    while not place.is_dir():
        place = place.parent
    needed = sum(release.bytes for release in releases) + _METADATA_BYTES
    free = disk.free_bytes(place) + _bytes_of(folder)
    if needed > free:
        raise ResourceExhausted(
            f"{folder} has room for {free} bytes and {needed} are needed: take a larger stick, or fewer lines",
            reason="STICK_FULL",
        )


def _carried(
    folder: Path, prefix: str, releases: Sequence[Release], verified: Verified, metadata_files: int
) -> Carried:
    versions = {role.name: role.version for role in verified.roles}
    missing = [r for r in releases if not verified.allows(r.line, r.version, r.digest)]
    if missing:
        raise AlreadyExists(f"{missing[0].line} {missing[0].version} is no longer released: try again")
    return Carried(
        prefix=prefix,
        releases=tuple(CarriedRelease(r.line, r.version, r.channels, r.digest, r.bytes) for r in releases),
        bytes=sum(release.bytes for release in releases),
        metadata_files=metadata_files,
        root_version=versions["root"],
        timestamp_version=versions["timestamp"],
        fresh_until_s=verified.fresh_until_s,
        stick_bytes=_bytes_of(folder),
    )


def _bytes_of(folder: Path) -> int:
    blobs = folder / "blobs" / "sha256"
    if not blobs.is_dir():
        return 0
    return sum(path.lstat().st_size for path in blobs.iterdir())
