"""How a TUF metadata file lies in an OCI repository: one artefact with one layer, tagged with the file's name.

A small file is also inlined in the layer's descriptor (OCI image-spec 1.1, descriptor.md, "data"), so that one request
for the manifest brings it, and one that answers "not modified" costs no body. Registries want every blob that a manifest
names, so the blobs are pushed all the same. Nothing here trusts a signature; that is for the TUF client.
"""

import base64
import binascii
import re
from typing import NamedTuple

import msgspec

from appliance import limits
from appliance.registry.sources.failures import Malformed
from appliance.store.manifest import MANIFEST_TYPE, Descriptor, canonical, digest_of, is_digest

ARTIFACT_TYPE = "application/vnd.inference-appliance.tuf.v1+json"
FILE_TYPE = "application/vnd.tuf.metadata+json"
# OCI image-spec 1.1, manifest.md, "Guidance for an Empty Descriptor".
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
EMPTY = b"{}"
_TITLE = "org.opencontainers.image.title"

# The tags of OCI distribution-spec 1.1, and names that TUF writes: VERSION.ROLE.json, or ROLE.json for the timestamp.
_FILE_NAME = re.compile(r"[0-9A-Za-z_][0-9A-Za-z._-]{0,122}\.json")


class Carried(NamedTuple):
    """What a publisher pushes for one file: the blobs first, then the manifest under its tag."""

    tag: str
    manifest: bytes
    blobs: tuple[bytes, ...]


class InliningDescriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """OCI descriptor; ``data``: the bytes themselves in base64, "" where they are a blob only."""

    media_type: str
    digest: str
    size: int
    data: str = ""
    annotations: dict[str, str] = {}


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """OCI image-spec 1.1, manifest.md: an artefact with an empty config."""

    schema_version: int
    media_type: str
    artifact_type: str
    config: InliningDescriptor
    layers: tuple[InliningDescriptor, ...]


_decoder = msgspec.json.Decoder(Manifest)


def repository_of(prefix: str) -> str:
    """The repository that holds the TUF files of all that is below ``prefix``."""
    return f"{prefix}/tuf" if prefix else "tuf"


def is_file_name(name: str) -> bool:
    """Whether a TUF file may be called that, as far as a registry's tags go."""
    return _FILE_NAME.fullmatch(name) is not None


def encode(file_name: str, data: bytes) -> Carried:
    """The artefact of a TUF file, always the same for the same file. Raises ValueError for what cannot be one."""
    if not is_file_name(file_name):
        raise ValueError(f"{file_name[:200]!r} cannot be the tag of a TUF file")
    if not 0 < len(data) <= limits.tuf_file_bytes_max:
        raise ValueError(f"{file_name} has {len(data)} bytes, at most {limits.tuf_file_bytes_max} are a TUF file")
    inlined = base64.b64encode(data).decode() if len(data) <= limits.tuf_inline_bytes_max else ""
    layer = InliningDescriptor(FILE_TYPE, digest_of(data), len(data), inlined, {_TITLE: file_name})
    config = InliningDescriptor(EMPTY_TYPE, digest_of(EMPTY), len(EMPTY), base64.b64encode(EMPTY).decode())
    return Carried(file_name, canonical(Manifest(2, MANIFEST_TYPE, ARTIFACT_TYPE, config, (layer,))), (EMPTY, data))


def decode(manifest: bytes) -> bytes | Descriptor:
    """The file itself when the manifest carries it, else which blob to fetch. Raises Malformed."""
    if len(manifest) > limits.tuf_manifest_bytes_max:
        raise Malformed(f"a TUF file's manifest of {len(manifest)} bytes, at most {limits.tuf_manifest_bytes_max}")
    try:
        parsed = _decoder.decode(manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"a TUF file's manifest cannot be read: {error}") from None
    if parsed.schema_version != 2 or parsed.artifact_type != ARTIFACT_TYPE or len(parsed.layers) != 1:
        raise Malformed("a manifest under a TUF file's tag is not one of a TUF file: publish the metadata again")
    layer = parsed.layers[0]
    if not is_digest(layer.digest) or not 0 < layer.size <= limits.tuf_file_bytes_max:
        raise Malformed("a TUF file's descriptor has no sha256 digest or a size out of range")
    if not layer.data:
        return Descriptor(layer.media_type, layer.digest, layer.size)
    try:
        data = base64.b64decode(layer.data, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("a TUF file's inlined data are not base64") from None
    if len(data) != layer.size or digest_of(data) != layer.digest:
        raise Malformed("a TUF file's inlined data have another length or digest than their descriptor says")
    return data
