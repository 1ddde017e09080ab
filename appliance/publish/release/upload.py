"""Metadata into a registry, file by file in the plan's order. Killed anywhere, the same call completes it."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from appliance import limits
from appliance.errors import AlreadyExists
from appliance.osutil.faults import fault_point
from appliance.publish.release import release_plan
from appliance.publish.release.repository import TIMESTAMP, split_name
from appliance.registry.sources.base import Source, Target
from appliance.registry.sources.failures import Absent, Malformed
from appliance.store import manifest


class Registry(NamedTuple):
    """Both directions of one registry or layout. ``name`` is for people."""

    name: str
    source: Source
    target: Target


def metadata(registry: Registry, repository: str, files: Mapping[str, bytes]) -> list[str]:
    """Uploads what the registry lacks; the names of what was sent, in order.

    Raises AlreadyExists REGISTRY_NEWER when somebody else has published, Refused or Unreachable.
    """
    remote = fetch(registry.source, repository, TIMESTAMP)
    names = release_plan.names(files, remote)
    roots = [name for name in names if _is_root(name)]
    # Roots go up in rising order, so the newest one that is there shows that all before it are, too.
    present = 0
    for count in range(len(roots), 0, -1):
        if _is_there(registry.source, repository, roots[count - 1], files):
            present = count
            break
    sent = []
    for name in names:
        if name in roots[:present] or (name == TIMESTAMP and remote == files[TIMESTAMP]):
            continue
        if name not in roots and name != TIMESTAMP and _is_there(registry.source, repository, name, files):
            continue
        if name == TIMESTAMP and fetch(registry.source, repository, TIMESTAMP) != remote:
            raise AlreadyExists(
                "somebody else has published at this very moment: `appliance publish fetch`, then try again",
                reason="REGISTRY_NEWER",
            )
        put(registry.target, repository, name, files[name])
        sent.append(name)
    return sent


def _is_root(name: str) -> bool:
    found = split_name(name)
    return found is not None and found[1] == "root"


def _is_there(source: Source, repository: str, name: str, files: Mapping[str, bytes]) -> bool:
    """Whether the file is there. A versioned name that holds something else is another publisher's work."""
    found = fetch(source, repository, name)
    if found is not None and found != files[name]:
        raise AlreadyExists(
            f"the registry has another {name}: somebody else has published, or has begun to; `appliance publish fetch` "
            "takes over what they made. If it stays so, they must finish with `appliance publish push`",
            reason="REGISTRY_NEWER",
        )
    return found is not None


def put(target: Target, repository: str, name: str, data: bytes) -> None:
    """Sends one file: its blobs, then the manifest under its tag."""
    from appliance.registry.trust import carried

    made = carried.encode(name, data)
    for blob in made.blobs:
        put_bytes(target, repository, blob)
    fault_point("publish.upload")
    target.put_manifest(repository, made.tag, manifest.MANIFEST_TYPE, made.manifest)


def put_bytes(target: Target, repository: str, data: bytes) -> None:
    """Sends a small blob unless it is there."""

    def chunks() -> Iterable[bytes]:
        return (data,)

    digest = manifest.digest_of(data)
    if not target.has_blob(repository, digest):
        fault_point("publish.upload_blob")
        target.put_blob(repository, digest, len(data), chunks)


def fetch(source: Source, repository: str, name: str) -> bytes | None:
    """One metadata file; None when there is none. Raises Malformed, Refused or Unreachable."""
    from appliance.registry.trust import carried

    try:
        found = source.manifest(repository, name, bytes_max=limits.manifest_bytes_max)
        assert found is not None  # no validator was given
        data = carried.decode(found.data)
        return data if isinstance(data, bytes) else _blob(source, repository, data)
    except Absent:
        return None


def _blob(source: Source, repository: str, descriptor: manifest.Descriptor) -> bytes:
    if not 0 <= descriptor.size <= limits.tuf_file_bytes_max:
        raise Malformed(f"a metadata file of {descriptor.size} bytes in {repository}")
    data = b""
    with source.blob(repository, descriptor.digest) as blob:
        while len(data) <= descriptor.size and (piece := blob.read(descriptor.size + 1 - len(data))):
            data += piece
    if manifest.digest_of(data) != descriptor.digest:
        raise Malformed(f"a metadata file in {repository} is not what its digest says")
    return data
