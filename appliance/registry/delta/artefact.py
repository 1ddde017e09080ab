"""The chunk index as an artefact of its own in the model's repository, under a tag beside that of its version.

Boxes read the blob only. The manifest keeps a registry from collecting it, and whoever copies the repository copies it, too.
"""

from typing import NamedTuple

from appliance.registry.delta import index
from appliance.registry.release import Chunks
from appliance.registry.sources.base import Target
from appliance.registry.trust import carried, files
from appliance.registry.trust.carried import InliningDescriptor
from appliance.store import manifest

# Of a tag. Semantic versions begin with a digit, so no version of the model has such a tag.
_TAG_PREFIX = "chunks_"


class ChunkArtefact(NamedTuple):
    """What is sent: the blobs first, then the manifest under its tag. The index is the last blob."""

    tag: str
    manifest: bytes
    blobs: tuple[bytes, ...]

    @property
    def chunks(self) -> Chunks:
        """What the release says of it."""
        return Chunks(manifest.digest_of(self.blobs[-1]), len(self.blobs[-1]))


def tag_of(version: str) -> str:
    """Where the index of a version is."""
    return _TAG_PREFIX + version


def artefact(version: str, data: bytes) -> ChunkArtefact:
    """How the index of a version lies in the model's repository."""
    config = InliningDescriptor(carried.EMPTY_TYPE, manifest.digest_of(carried.EMPTY), len(carried.EMPTY))
    layer = InliningDescriptor(index.MEDIA_TYPE, manifest.digest_of(data), len(data))
    made = carried.Manifest(2, manifest.MANIFEST_TYPE, index.MEDIA_TYPE, config, (layer,))
    return ChunkArtefact(tag_of(version), manifest.canonical(made), (carried.EMPTY, data))


def put(target: Target, repository: str, made: ChunkArtefact) -> None:
    """Sends it; blobs that are there already are not sent again. Raises Refused or Unreachable."""
    for blob in made.blobs:
        files.put_bytes(target, repository, blob)
    target.put_manifest(repository, made.tag, manifest.MANIFEST_TYPE, made.manifest)
