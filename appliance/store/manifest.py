"""A model as an OCI artefact: the CNCF ModelPack manifest and config, byte for byte the same for the same files.

Formats: OCI image-spec 1.1 (manifest.md, "Guidelines for Artifact Usage") and CNCF model-spec (docs/spec.md, config.md).
Layers are raw files, uncompressed: a layer's digest is its file's sha256, which is also its diffId.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from appliance import limits
from appliance.model_spec import ModelSpec

if TYPE_CHECKING:
    import hashlib

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE = "application/vnd.cncf.model.config.v1+json"
WEIGHT_TYPE = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG_TYPE = "application/vnd.cncf.model.weight.config.v1.raw"
DOC_TYPE = "application/vnd.cncf.model.doc.v1.raw"
FILE_PATH = "org.cncf.model.filepath"
_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"

_TYPE_OF_ROLE = {
    "model": WEIGHT_TYPE,
    "data": WEIGHT_TYPE,
    "adapter": WEIGHT_TYPE,
    "draft": WEIGHT_TYPE,
    "doc": DOC_TYPE,
}
_FORMATS = {"onnx": "onnx", "llama": "gguf", "fake": "fake"}

_DIGEST_PREFIX = "sha256:"
_HEX_CHARS = 64


class Descriptor(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """OCI content descriptor (descriptor.md). ``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] = {}

    @property
    def hex(self) -> str:
        """The digest without its algorithm: the blob's file name."""
        return self.digest.removeprefix(_DIGEST_PREFIX)


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """OCI image manifest (manifest.md) of a model."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""
    annotations: dict[str, str] = {}
    # Without a default it would have to come first; omit_defaults is overruled for it in build().
    schema_version: int = 0

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All that it names; files with the same content are there more than once."""
        return (self.config, *self.layers)


class Layer(NamedTuple):
    """A file of the model as it will be stored. ``sha256`` in hexadecimal."""

    path: str
    role: str
    size: int
    sha256: str


class Artefact(NamedTuple):
    """Manifest and config with the bytes that their digests are of."""

    manifest: Manifest
    manifest_bytes: bytes
    config_bytes: bytes

    @property
    def digest(self) -> str:
        """The manifest's digest, ``sha256:`` and 64 hexadecimal digits: what identifies this version's content."""
        return digest_of(self.manifest_bytes)

    @property
    def descriptor(self) -> Descriptor:
        """How an index refers to the manifest."""
        return Descriptor(MANIFEST_TYPE, self.digest, len(self.manifest_bytes), ARTIFACT_TYPE)


class BadManifest(Exception):
    """Bytes that are not a manifest of a model."""


def digest_of(data: bytes) -> str:
    """``sha256:…`` of some bytes."""
    digest = new_sha256()
    digest.update(data)
    return _DIGEST_PREFIX + digest.hexdigest()


def new_sha256() -> "hashlib._Hash":
    """A running sha256."""
    import hashlib  # loads OpenSSL: 3.7 MB resident, which a process without a model does not need

    return hashlib.sha256()


def build(spec: ModelSpec, layers: Sequence[Layer]) -> Artefact:
    """The manifest and config of a model with these files."""
    config_bytes = canonical(_config(spec, layers))
    manifest = Manifest(
        schema_version=2,
        media_type=MANIFEST_TYPE,
        artifact_type=ARTIFACT_TYPE,
        config=Descriptor(CONFIG_TYPE, digest_of(config_bytes), len(config_bytes)),
        layers=tuple(_descriptor(layer) for layer in layers),
        annotations={_TITLE: spec.name, _VERSION: spec.version},
    )
    return Artefact(manifest, canonical(manifest), config_bytes)


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no white space, in UTF-8."""
    return msgspec.json.encode(value, order="sorted")


def _descriptor(layer: Layer) -> Descriptor:
    kind = _TYPE_OF_ROLE.get(layer.role, WEIGHT_CONFIG_TYPE)
    return Descriptor(kind, _DIGEST_PREFIX + layer.sha256, layer.size, annotations={FILE_PATH: layer.path})


def _config(spec: ModelSpec, layers: Sequence[Layer]) -> dict[str, Any]:
    about: dict[str, Any] = {"name": spec.name, "version": spec.version, "licenses": [spec.card.licence]}
    if spec.card.description:
        about["description"] = spec.card.description
    if spec.card.source.startswith(("https://", "http://")):
        about["sourceURL"] = spec.card.source
    return {
        "descriptor": about,
        "config": {"format": _FORMATS[spec.engine]},
        "modelfs": {"type": "layers", "diffIds": [_DIGEST_PREFIX + layer.sha256 for layer in layers]},
    }


_decoder = msgspec.json.Decoder(Manifest)


def parse(data: bytes) -> Manifest:
    """A model's manifest out of bytes that nobody has vouched for. Raises BadManifest."""
    if len(data) > limits.manifest_bytes_max:
        raise BadManifest(f"{len(data)} bytes, at most {limits.manifest_bytes_max} are a manifest")
    try:
        manifest = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadManifest(str(error)) from None
    if manifest.schema_version != 2 or manifest.media_type != MANIFEST_TYPE or manifest.artifact_type != ARTIFACT_TYPE:
        raise BadManifest("not an OCI manifest of a CNCF model")
    if len(manifest.layers) > limits.files_per_model_max + 1:  # and model.toml
        raise BadManifest(f"{len(manifest.layers)} layers, at most {limits.files_per_model_max + 1} are allowed")
    for descriptor in manifest.blobs:
        if not is_digest(descriptor.digest) or descriptor.size < 0:
            raise BadManifest("a descriptor has no sha256 digest or a negative size")
    return manifest


def is_digest(text: str) -> bool:
    """Whether this is a sha256 digest as OCI writes it."""
    return text.startswith(_DIGEST_PREFIX) and is_hex(text.removeprefix(_DIGEST_PREFIX))


def is_hex(text: str) -> bool:
    """Whether this is a sha256 in hexadecimal: the name of a blob."""
    return len(text) == _HEX_CHARS and set(text) <= set("0123456789abcdef")


def file_path(layer: Descriptor) -> str:
    """The file's name inside the model's folder; empty when the layer has none."""
    return layer.annotations.get(FILE_PATH, "")
