"""A release: what signed metadata say about one version of a model line, and how that is written down.

One release is one TUF target (TUF specification 1.0, clause 4.5): its path is ``models/LINE/VERSION/manifest.json``, its
length and hash are those of the OCI manifest, and the ``custom`` field holds what ``encode`` makes under the key "release".
A line is a model's name. Publishers write releases, boxes read them; a field may only be added with a default.
"""

import re
from typing import Any

import msgspec

from appliance import limits, semver
from appliance.store.manifest import is_digest

CUSTOM_KEY = "release"
# The TUF role that a line's releases are delegated to, and what that role may speak about.
ROLE_PREFIX = "models."
_PATH = re.compile(r"models/([a-z0-9][a-z0-9._-]*)/([0-9A-Za-z.-]+)/manifest\.json")


class Wave(msgspec.Struct, frozen=True):
    """From ``from_s`` (Unix time) on, ``percent`` of the boxes may install."""

    percent: float
    from_s: int


class Chunks(msgspec.Struct, frozen=True):
    """The chunk index (registry/delta): a blob of ``size`` bytes in the release's repository."""

    digest: str
    size: int


class Release(msgspec.Struct, frozen=True):
    """``repository`` holds the artefact, under the digest ``digest``; ``bytes`` is the sum of its blobs.

    ``counter`` rises with every release of a line, also when an older version is released again. Empty ``hardware`` and
    ``regions`` mean any; each entry of ``hardware`` is an alternative, its words joined by "+" all needed ("cuda+x86_64").
    Empty ``waves``: everybody at once. ``chunks``: what a delta is made with; boxes that can't use it fetch whole blobs.
    """

    line: str
    version: str
    repository: str
    digest: str
    manifest_bytes: int
    bytes: int
    counter: int
    released_s: int
    channels: tuple[str, ...] = ("stable",)
    hardware: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    waves: tuple[Wave, ...] = ()
    minimum_appliance: str = "0.0.0"
    licence: str = ""
    chunks: Chunks | None = None


class BadRelease(ValueError):
    """Signed, and still not a release."""


# What the target itself says: its path, its length and its hash.
_OF_TARGET = ("line", "version", "digest", "manifest_bytes")


def target_path(line: str, version: str) -> str:
    """Where the release's manifest is among the targets."""
    return f"models/{line}/{version}/manifest.json"


def role_of(line: str) -> str:
    """The delegated role that signs a line's releases; its paths are ``models/LINE/*/manifest.json``."""
    return ROLE_PREFIX + line


def encode(release: Release) -> dict[str, Any]:
    """The target's ``custom`` field; path, length and hash say the rest. What a release doesn't have is left out."""
    fields = msgspec.to_builtins(release)
    return {CUSTOM_KEY: {name: value for name, value in fields.items() if name not in _OF_TARGET and value is not None}}


def decode(path: str, length: int, sha256: str, custom: Any) -> Release:
    """The release of a verified target. Raises BadRelease with what is wrong with it."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise BadRelease(f"target {path[:200]!r} is no model's manifest")
    line, version = found.groups()
    if not isinstance(custom, dict) or CUSTOM_KEY not in custom:
        raise BadRelease(f'target {path}: its custom field has no "{CUSTOM_KEY}"')
    digest, fields = f"sha256:{sha256}", custom[CUSTOM_KEY]
    of_target = {"line": line, "version": version, "digest": digest, "manifest_bytes": length}
    try:
        semver.check(version)
        release = msgspec.convert({**fields, **of_target} if isinstance(fields, dict) else fields, Release)
        semver.check(release.minimum_appliance)
    except ValueError as error:
        raise BadRelease(f"target {path}: {error}") from None
    if not is_digest(digest) or not 0 < length <= limits.manifest_bytes_max:
        raise BadRelease(f"target {path}: no sha256, or a manifest of {length} bytes")
    if not 0 <= release.bytes <= limits.model_bytes_max or release.counter < 0:
        raise BadRelease(f"target {path}: {release.bytes} bytes or counter {release.counter} is out of range")
    if any(not 0 <= wave.percent <= 100 for wave in release.waves):
        raise BadRelease(f"target {path}: a wave's share is not from 0 to 100 percent")
    return release
