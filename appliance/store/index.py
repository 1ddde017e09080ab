"""index.json of the OCI layout: which ``name:version`` is which manifest. The commit point of every add and remove.

When the file is lost or corrupt it is rebuilt from the manifests among the blobs, each of which says whose it is.
"""

import logging
from pathlib import Path

import msgspec

from appliance import events, limits
from appliance.osutil import durable
from appliance.store import manifest
from appliance.store.aside import keep_aside
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor

_log = logging.getLogger(__name__)

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
ADDED_MS = "appliance.added-ms"
# Of a version that an update brought: only such a one may go to make room for another.
BROUGHT = "appliance.brought"
_TITLE = "org.opencontainers.image.title"
_VERSION = "org.opencontainers.image.version"
_MARKER = "oci-layout"
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
        marker = layout / _MARKER
        is_new = not marker.exists()
        if is_new and not self._path.exists():
            self._write({})
        self.refs = self._load()
        if is_new:  # last, so that a layout without an index is known to have lost it
            durable.write(marker, _LAYOUT, point="store.layout")

    def set(self, name: str, version: str, entry: Descriptor, added_ms: int) -> None:
        """Points ``name:version`` at a manifest; durable when it returns."""
        key = (name, version)
        self._change({**self.refs, key: canonical_entry(key, entry, added_ms)})

    def drop(self, name: str, version: str) -> None:
        """Forgets ``name:version``; durable when it returns. Raises KeyError."""
        rest = dict(self.refs)
        del rest[name, version]
        self._change(rest)

    def replace(self, old: Key, new: Key, entry: Descriptor, added_ms: int) -> None:
        """Lets ``entry`` stand where ``old`` stood, as ``new``; durable when it returns."""
        rest = {key: value for key, value in self.refs.items() if key != old}
        self._change({**rest, new: canonical_entry(new, entry, added_ms)})

    def rebuilt(self) -> dict[Key, Descriptor]:
        """What the manifests among the blobs would make of a lost index; changes nothing."""
        return self._rebuild()

    def faults(self) -> list[tuple[Path, str]]:
        """What of the files on the disk is not as it was written, and how. Raises OSError."""
        expected = {self._path.with_name(_MARKER): _LAYOUT, self._path: self._encode(self.refs)}
        found = [(path, _difference(path, data)) for path, data in expected.items()]
        return [(path, wrong) for path, wrong in found if wrong]

    def write_again(self) -> None:
        """Writes the files that are not as they were written; what is there instead is set aside."""
        for path, _ in self.faults():
            keep_aside(path)
            data = _LAYOUT if path.name == _MARKER else self._encode(self.refs)
            durable.write(path, data, point="store.index_again")

    def _change(self, refs: dict[Key, Descriptor]) -> None:
        try:
            self._write(refs)
        except BaseException:
            # Whether the rename came before the failure is for the file to say.
            self.refs = self._load()
            raise
        self.refs = refs

    def _write(self, refs: dict[Key, Descriptor]) -> None:
        durable.write(self._path, self._encode(refs), point="store.index")

    @staticmethod
    def _encode(refs: dict[Key, Descriptor]) -> bytes:
        return manifest.canonical(IndexFile(2, tuple(refs[key] for key in sorted(refs))))

    def _load(self) -> dict[Key, Descriptor]:
        try:
            return _parse(self._path.read_bytes())
        except FileNotFoundError:
            _log.warning(
                "the store's index.json is lost: rebuilding it from the manifests among the blobs",
                extra=events.STORE_INDEX_REBUILT.of(),
            )
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            aside = durable.set_aside(self._path)
            _log.warning(
                "the store's index.json is corrupt (%s): set aside as %s, rebuilding it from the manifests among the blobs",
                error,
                aside.name,
                extra=events.STORE_INDEX_REBUILT.of(),
            )
        refs = self._rebuild()
        self._write(refs)
        _log.warning(
            "the rebuilt index.json lists: %s",
            ", ".join(sorted(map(":".join, refs))) or "nothing",
            extra=events.STORE_INDEX_REBUILT.of(),
        )
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
        if any(self._blobs.size(blob.hex) != blob.size for blob in parsed.blobs):
            _log.warning(
                "%s (manifest %s) is not listed again: some of its blobs are missing",
                ref,
                sha256,
                extra=events.STORE_INDEX_REBUILT.of(),
            )
            return None
        annotations = {REF_NAME: ref, ADDED_MS: str(int(self._stored_at(sha256) * 1000))}
        return Descriptor(manifest.MANIFEST_TYPE, f"sha256:{sha256}", size, manifest.ARTIFACT_TYPE, annotations)


def canonical_entry(key: Key, entry: Descriptor, added_ms: int) -> Descriptor:
    """An entry as this module writes it."""
    annotations = {REF_NAME: ":".join(key), ADDED_MS: str(added_ms)}
    if brought(entry):
        annotations[BROUGHT] = "yes"
    return Descriptor(manifest.MANIFEST_TYPE, entry.digest, entry.size, manifest.ARTIFACT_TYPE, annotations)


def _difference(path: Path, data: bytes) -> str:
    """How a small file is not what it should be; empty when it is."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return "is not a regular file"
    try:
        with path.open("rb") as file:
            return "" if file.read(len(data) + 1) == data else "has other bytes than were written"
    except FileNotFoundError:
        return "is missing"


def brought(entry: Descriptor) -> bool:
    """Whether an update brought the version, not an operator."""
    return entry.annotations.get(BROUGHT) == "yes"


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
