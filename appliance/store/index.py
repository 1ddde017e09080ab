"""index.json of the OCI layout: which ``name:version`` is which manifest. The commit point of every add and remove.

When the file is lost or corrupt it is rebuilt from the manifests among the blobs, each of which says whose it is.
"""

import logging
from pathlib import Path

import msgspec

from appliance import limits
from appliance.osutil import durable
from appliance.store import manifest
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor

_log = logging.getLogger(__name__)

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
ADDED_MS = "appliance.added-ms"
_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'

Key = tuple[str, str]


class IndexFile(msgspec.Struct, frozen=True, rename="camel"):
    """OCI image index (image-index.md)."""

    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str = INDEX_TYPE


class Index:
    """The references of one layout folder, by (name, version)."""

    def __init__(self, layout: Path, blobs: Blobs) -> None:
        self._path = layout / "index.json"
        self._blobs = blobs
        marker = layout / "oci-layout"
        is_new = not marker.exists()
        if is_new and not self._path.exists():
            self._write({})
        self.refs = self._load()
        if is_new:  # last, so that a layout without an index is known to have lost it
            durable.write(marker, _LAYOUT, point="store.layout")

    def set(self, name: str, version: str, entry: Descriptor, added_ms: int) -> None:
        """Points ``name:version`` at a manifest; durable when it returns."""
        annotations = {REF_NAME: f"{name}:{version}", ADDED_MS: str(added_ms)}
        self._change({**self.refs, (name, version): msgspec.structs.replace(entry, annotations=annotations)})

    def drop(self, name: str, version: str) -> None:
        """Forgets ``name:version``; durable when it returns. Raises KeyError."""
        rest = dict(self.refs)
        del rest[name, version]
        self._change(rest)

    def _change(self, refs: dict[Key, Descriptor]) -> None:
        try:
            self._write(refs)
        except BaseException:
            # Whether the rename came before the failure is for the file to say.
            self.refs = self._load()
            raise
        self.refs = refs

    def _write(self, refs: dict[Key, Descriptor]) -> None:
        entries = tuple(refs[key] for key in sorted(refs))
        durable.write(self._path, manifest.canonical(IndexFile(2, entries)), point="store.index")

    def _load(self) -> dict[Key, Descriptor]:
        try:
            return _parse(self._path.read_bytes())
        except FileNotFoundError:
            _log.warning("the store's index.json is lost: rebuilding it from the manifests among the blobs")
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            aside = durable.set_aside(self._path)
            _log.warning(
                "the store's index.json is corrupt (%s): set aside as %s, rebuilding it from the manifests among the blobs",
                error,
                aside.name,
            )
        refs = self._rebuild()
        self._write(refs)
        _log.warning("the rebuilt index.json lists: %s", ", ".join(sorted(map(":".join, refs))) or "nothing")
        return refs

    def _rebuild(self) -> dict[Key, Descriptor]:
        found: dict[Key, Descriptor] = {}
        for sha256 in sorted(self._blobs.names(), key=self._stored_at):
            entry = self._as_manifest(sha256)
            if entry:
                # Of two with one name the later one stays.
                found[_key(entry)] = entry
        return found

    def _stored_at(self, sha256: str) -> float:
        return self._blobs.path(sha256).stat().st_mtime

    def _as_manifest(self, sha256: str) -> Descriptor | None:
        """An index entry for a blob that is a model's manifest and has all of its blobs."""
        size = self._blobs.size(sha256)
        if size > limits.manifest_bytes_max:
            return None
        data = self._blobs.read(Descriptor(manifest.MANIFEST_TYPE, f"sha256:{sha256}", size))
        try:
            parsed = manifest.parse(data or b"")
            ref = f"{parsed.annotations[_TITLE]}:{parsed.annotations[_VERSION]}"
        except (manifest.BadManifest, KeyError):
            return None
        if any(self._blobs.size(blob.hex) != blob.size for blob in (parsed.config, *parsed.layers)):
            _log.warning("%s (manifest %s) is not listed again: some of its blobs are missing", ref, sha256)
            return None
        annotations = {REF_NAME: ref, ADDED_MS: str(int(self._stored_at(sha256) * 1000))}
        return Descriptor(manifest.MANIFEST_TYPE, f"sha256:{sha256}", size, manifest.ARTIFACT_TYPE, annotations)


def added_ms(entry: Descriptor) -> int:
    """When the version was added, milliseconds since the epoch; 0 when unknown."""
    text = entry.annotations.get(ADDED_MS, "")
    return int(text) if text.isascii() and text.isdigit() else 0


_decoder = msgspec.json.Decoder(IndexFile)


def _parse(data: bytes) -> dict[Key, Descriptor]:
    index = _decoder.decode(data)
    if index.schema_version != 2:
        raise ValueError(f"schemaVersion {index.schema_version}, expected 2")
    if not all(manifest.is_digest(entry.digest) for entry in index.manifests):
        raise ValueError("an entry has no sha256 digest")
    return {_key(entry): entry for entry in index.manifests}


def _key(entry: Descriptor) -> Key:
    name, colon, version = entry.annotations.get(REF_NAME, "").rpartition(":")
    if not (name and colon and version):
        raise ValueError("an entry has no reference of the form name:version")
    return name, version
