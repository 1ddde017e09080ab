"""All that a plan is made from, as frozen values: nothing in it is looked up, so the same facts give the same plan."""

from collections.abc import Callable, Mapping
from datetime import timezone, tzinfo
from typing import NamedTuple

import msgspec

from appliance import registry_rules, windows
from appliance.config import RegistryConfig
from appliance.registry.release import Release
from appliance.windows import Window


class Device(NamedTuple):
    """Who plans. ``hardware``: words such as "x86_64" and "cuda"; ``appliance``: our own version."""

    id: str
    appliance: str
    channel: str = "stable"
    region: str = ""
    hardware: frozenset[str] = frozenset()


class Policy(NamedTuple):
    """What the operator wants. ``pins``: line -> version. ``disk_bytes_max`` 0: what the disk has. No windows: always."""

    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    pins: Mapping[str, str] = {}
    windows: tuple[Window, ...] = ()
    disk_bytes_max: int = 0
    keep_previous: int = 1
    activate: bool = True


class Blob(NamedTuple):
    """A file of a model by its digest."""

    digest: str
    bytes: int


class Stored(NamedTuple):
    """A version in the store. ``brought`` by an update: only such a one may be removed to make room."""

    line: str
    version: str
    digest: str
    blobs: frozenset[Blob] = frozenset()
    added_s: int = 0
    brought: bool = False


class Line(NamedTuple):
    """What runs of a line. ``active`` and ``previous`` are versions, "" for none.

    ``in_use``: versions that are loaded, or that an update under way needs. ``counter``: the highest of a release that
    was installed here, -1: none was. Until ``retry_s`` a failed update is left alone, which was tried ``tries`` times, the
    last time for ``failure``. ``stopped``: an operator has deactivated what an update had brought.
    """

    active: str = ""
    previous: str = ""
    in_use: frozenset[str] = frozenset()
    counter: int = -1
    retry_s: int = 0
    retry_digest: str = ""
    tries: int = 0
    failure: str = ""
    stopped: bool = False


def contents_unknown(_release: Release) -> frozenset[Blob] | None:
    """No manifest of a release has been fetched yet."""
    return None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """``contents``: the blobs of a release where its manifest is known; where not, all of it counts as missing.

    ``quarantined``: digest -> why. ``free_bytes``: what may still be written on the store's disk. ``loose``: blobs there that no version needs, and
    ``partial``: bytes of begun ones. ``fresh_until_s``: until then the metadata count. ``zone`` is the operator's.
    """

    device: Device
    policy: Policy
    releases: tuple[Release, ...]
    now_s: int
    fresh_until_s: int
    stored: tuple[Stored, ...] = ()
    lines: Mapping[str, Line] = {}
    quarantined: Mapping[str, str] = {}
    free_bytes: int = 1 << 62
    loose: frozenset[Blob] = frozenset()
    partial: Mapping[str, int] = {}
    contents: Callable[[Release], frozenset[Blob] | None] = contents_unknown
    zone: tzinfo = timezone.utc
    paused: bool = False


def policy_of(config: RegistryConfig) -> Policy:
    """The part of a checked configuration that plans depend on."""
    return Policy(
        allow=config.allow,
        deny=config.deny,
        pins=registry_rules.pinned(config),
        windows=tuple(windows.parse(text) for text in config.windows),
        disk_bytes_max=config.disk_mib_max * 1024 * 1024,
        keep_previous=config.keep_previous,
        activate=config.activate,
    )


def device_of(config: RegistryConfig, device_id: str, appliance: str, found: frozenset[str]) -> Device:
    """``found``: hardware words; the configuration may add some."""
    return Device(device_id, appliance, config.channel, config.region, found | set(config.hardware))
