"""Artefacts from one place to another, blobs first: what is there already isn't sent, so a push that broke goes on."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from appliance import limits
from appliance.errors import FailedPrecondition, NotFound
from appliance.osutil.faults import fault_point
from appliance.registry.sources.base import Source, Target
from appliance.registry.sources.failures import Absent, Malformed
from appliance.store import manifest
from appliance.store.blobs import Tick, no_tick
from appliance.store.manifest import Descriptor, Manifest

_READ_BYTES = 1024 * 1024
_CONFIG_BYTES_MAX = 1024 * 1024


class Found(NamedTuple):
    """An artefact in a layout, its manifest parsed and as bytes."""

    manifest: Manifest
    data: bytes

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return manifest.digest_of(self.data)

    @property
    def blobs(self) -> list[Descriptor]:
        """Config and layers, each once."""
        return list({one.digest: one for one in self.manifest.blobs}.values())

    @property
    def bytes(self) -> int:
        """All blobs together."""
        return sum(blob.size for blob in self.blobs)


class Sent(NamedTuple):
    """What a push did; ``bytes`` of the blobs that weren't there."""

    digest: str
    blobs: int
    bytes: int


def find(source: Source, repository: str, version: str) -> Found:
    """A packed version. Raises NotFound NOT_PACKED, FailedPrecondition MANIFEST_BROKEN."""
    try:
        fetched = source.manifest(repository, version, bytes_max=limits.manifest_bytes_max)
    except Absent:
        known = ", ".join(sorted(source.tags(repository))) or "none"
        raise NotFound(
            f"version {version} of {repository} is not packed (packed: {known}): appliance publish pack FOLDER",
            reason="NOT_PACKED",
        ) from None
    assert fetched is not None  # no validator was given
    try:
        return Found(manifest.parse(fetched.data), fetched.data)
    except manifest.BadManifest as error:
        raise FailedPrecondition(
            f"the packed {repository} {version} is broken ({error}): pack it again with --replace",
            reason="MANIFEST_BROKEN",
        ) from None


def copy(source: Source, target: Target, repository: str, version: str, tick: Tick = no_tick) -> Sent:
    """Sends a packed version under its tag. Raises what ``find`` raises, Malformed, Refused or Unreachable."""
    found = find(source, repository, version)
    blobs = sent = 0
    for blob in found.blobs:
        if target.has_blob(repository, blob.digest):
            continue
        fault_point("publish.push_blob")
        target.put_blob(repository, blob.digest, blob.size, functools.partial(_chunks, source, repository, blob, tick))
        blobs += 1
        sent += blob.size
    fault_point("publish.push_manifest")
    target.put_manifest(repository, version, manifest.MANIFEST_TYPE, found.data)
    return Sent(found.digest, blobs, sent)


def _chunks(source: Source, repository: str, descriptor: Descriptor, tick: Tick) -> Iterator[bytes]:
    digest = manifest.new_sha256()
    with source.blob(repository, descriptor.digest) as blob:
        while piece := blob.read(_READ_BYTES):
            digest.update(piece)
            tick(len(piece))
            yield piece
    if digest.hexdigest() != descriptor.hex:
        raise Malformed(f"the blob {descriptor.digest} in {source.name} has decayed: pack the model again")


def licence(source: Source, repository: str, found: Found) -> str:
    """The licence that the artefact's config names (CNCF model-spec, config.md: descriptor.licenses)."""
    if found.manifest.config.size > _CONFIG_BYTES_MAX:
        return ""
    data = b"".join(_chunks(source, repository, found.manifest.config, no_tick))
    try:
        config = msgspec.json.decode(data)
        return str(config["descriptor"]["licenses"][0])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
