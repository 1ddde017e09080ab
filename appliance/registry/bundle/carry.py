"""Copies artefacts between two places. What is named by a digest is checked against it on the way, byte by byte."""

import logging

from appliance.registry.delta import artefact as delta
from appliance.registry.delta import reference
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.release import Release
from appliance.registry.sources import whole
from appliance.registry.sources.base import Source, Target
from appliance.registry.sources.failures import Malformed
from appliance.store import manifest
from appliance.store.blobs import Tick
from appliance.store.manifest import Descriptor

_log = logging.getLogger(__name__)


def artefact(source: Source, target: Target, repository: str, tag: str, data: bytes, gone: Tick) -> None:
    """The blobs of a model's manifest, then the manifest under its ``tag``. ``data``: the manifest, trusted already.

    What the target has is not sent again, so a copy that broke off goes on where it was. Raises Malformed for bytes
    that are not those of their digest, and what source and target raise.
    """
    try:
        parsed = manifest.parse(data)
    except manifest.BadManifest as error:
        raise Malformed(f"{repository}:{tag} has no manifest that can be read: {error}") from None
    for blob in parsed.blobs:
        _blob(source, target, repository, blob, gone)
    target.put_manifest(repository, tag, manifest.MANIFEST_TYPE, data)


def chunks(source: Source, target: Target, release: Release) -> None:
    """The chunk index that a release names; one that can't be had is left behind: boxes do without. Raises what target raises."""
    if release.chunks is None:
        return
    try:
        data = reference.read(source, release.repository, release.chunks)
    except DeltaFailed as error:
        _log.info("%s %s goes without its chunk index: %s", release.line, release.version, error.message)
    else:
        delta.put(target, release.repository, delta.artefact(release.version, data))


def _blob(source: Source, target: Target, repository: str, blob: Descriptor, gone: Tick) -> None:
    if target.has_blob(repository, blob.digest):
        gone(blob.size)
    else:
        target.put_blob(repository, blob.digest, blob.size, lambda: whole.pieces(source, repository, blob, gone))
