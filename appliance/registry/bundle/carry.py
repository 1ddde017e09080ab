"""Copies artefacts between two places. What is named by a digest is checked against it on the way, byte by byte."""

from collections.abc import Callable, Iterator

from appliance import limits
from appliance.registry.sources.base import Source, Target
from appliance.registry.sources.failures import Malformed, Unreachable
from appliance.registry.trust import carried
from appliance.store import manifest
from appliance.store.manifest import Descriptor

# Called with the bytes that have gone since the last call.
Gone = Callable[[int], None]

_READ_BYTES = 1024 * 1024


def artefact(source: Source, target: Target, repository: str, tag: str, data: bytes, gone: Gone) -> None:
    """The blobs of a model's manifest, then the manifest under its ``tag``. ``data``: the manifest, trusted already.

    What the target has is not sent again, so a copy that broke off goes on where it was. Raises Malformed for bytes
    that are not those of their digest, and what source and target raise.
    """
    try:
        parsed = manifest.parse(data)
    except manifest.BadManifest as error:
        raise Malformed(f"{repository}:{tag} has no manifest that can be read: {error}") from None
    for blob in (parsed.config, *parsed.layers):
        _blob(source, target, repository, blob, gone)
    target.put_manifest(repository, tag, manifest.MANIFEST_TYPE, data)


def tuf_file(target: Target, prefix: str, name: str, data: bytes) -> None:
    """A TUF file under its tag."""
    repository = carried.repository_of(prefix)
    packed = carried.encode(name, data)
    for blob in packed.blobs:
        target.put_blob(repository, manifest.digest_of(blob), len(blob), lambda blob=blob: (blob,))  # type: ignore[misc]
    target.put_manifest(repository, packed.tag, manifest.MANIFEST_TYPE, packed.manifest)


def read_tuf_file(source: Source, prefix: str, name: str, bytes_max: int = limits.tuf_file_bytes_max) -> bytes:
    """A TUF file, unverified. Raises Absent, Malformed and what the source raises."""
    repository = carried.repository_of(prefix)
    fetched = source.manifest(repository, name, bytes_max=limits.tuf_manifest_bytes_max)
    found = carried.decode(fetched.data) if fetched is not None else b""
    if isinstance(found, Descriptor):
        if found.size > bytes_max:
            raise Malformed(f"{name} from {source.name} has {found.size} bytes, at most {bytes_max} are allowed")
        return b"".join(_checked(source, repository, found, _nothing))
    if not found or len(found) > bytes_max:
        raise Malformed(f"{name} from {source.name} has {len(found)} bytes, at most {bytes_max} are allowed")
    return found


def _blob(source: Source, target: Target, repository: str, blob: Descriptor, gone: Gone) -> None:
    if target.has_blob(repository, blob.digest):
        gone(blob.size)
    else:
        target.put_blob(repository, blob.digest, blob.size, lambda: _checked(source, repository, blob, gone))


def _checked(source: Source, repository: str, blob: Descriptor, gone: Gone) -> Iterator[bytes]:
    """The blob's pieces; the last one is held back until the digest is right, so that nobody takes a wrong one for whole."""
    digest, done, held = manifest.new_sha256(), 0, b""
    with source.blob(repository, blob.digest) as stream:
        while piece := stream.read(min(_READ_BYTES, blob.size - done + 1)):
            if held:
                yield held
                gone(len(held))
            digest.update(piece)
            done, held = done + len(piece), piece
            if done > blob.size:
                raise Malformed(f"{source.name} sends more of {blob.digest} than its {blob.size} bytes")
    if done < blob.size:
        raise Unreachable(f"{source.name} sent {done} of the {blob.size} bytes of {blob.digest}: try again")
    if digest.hexdigest() != blob.hex:
        raise Malformed(f"what {source.name} sends as {blob.digest} has another digest")
    yield held
    gone(len(held))


def _nothing(_count: int) -> None:
    """For callers that show no progress."""
