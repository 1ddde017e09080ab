"""TUF's files in a registry, put and read as they are (see carried.py for how they lie there). Nothing is verified here."""

from appliance import limits
from appliance.osutil.faults import fault_point
from appliance.registry.sources import whole
from appliance.registry.sources.base import Source, Target
from appliance.registry.sources.failures import Malformed
from appliance.registry.trust import carried
from appliance.store import manifest
from appliance.store.manifest import Descriptor


def put(target: Target, repository: str, name: str, data: bytes) -> None:
    """Sends one file: its blobs, then the manifest under its tag. Raises Refused or Unreachable."""
    made = carried.encode(name, data)
    for blob in made.blobs:
        put_bytes(target, repository, blob)
    fault_point("tuf.put")
    target.put_manifest(repository, made.tag, manifest.MANIFEST_TYPE, made.manifest)


def put_bytes(target: Target, repository: str, data: bytes) -> None:
    """Sends a small blob unless it is there."""
    digest = manifest.digest_of(data)
    if not target.has_blob(repository, digest):
        fault_point("tuf.put_blob")
        target.put_blob(repository, digest, len(data), lambda: (data,))


def read(source: Source, repository: str, name: str, bytes_max: int = limits.tuf_file_bytes_max) -> bytes:
    """One file. Raises Absent, Malformed, Refused or Unreachable."""
    fetched = source.manifest(repository, name, bytes_max=limits.tuf_manifest_bytes_max)
    assert fetched is not None  # no validator was given
    found = carried.decode(fetched.data)
    size = found.size if isinstance(found, Descriptor) else len(found)
    if size > bytes_max:
        raise Malformed(f"{name} from {source.name} has {size} bytes, at most {bytes_max} are allowed")
    return b"".join(whole.pieces(source, repository, found)) if isinstance(found, Descriptor) else found
