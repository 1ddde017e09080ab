"""A TUF repository's files, read and verified: what the next change is made out of (TUF specification 1.0, clause 5).

Expiry is not looked at: whoever refreshes expired metadata must be able to read them.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance import limits
from appliance.errors import FailedPrecondition
from appliance.registry.release import ROLE_PREFIX

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

TIMESTAMP = "timestamp.json"
TOP_ROLES = ("root", "targets", "snapshot", "timestamp")
_NAME = re.compile(r"(?:(?P<version>[1-9][0-9]{0,8})\.)?(?P<role>[a-z][a-z0-9._-]{0,110})\.json")


class Repository(NamedTuple):
    """All that is current. ``files``: every metadata file there is, by name."""

    files: Mapping[str, bytes]
    root: "Metadata[Root]"
    timestamp: "Metadata[Timestamp]"
    snapshot: "Metadata[Snapshot]"
    targets: "Metadata[Targets]"
    lines: "dict[str, Metadata[Targets]]"

    def metadata(self, role: str) -> "Metadata[Any] | None":
        """A role's current metadata; None for a role that there isn't."""
        return self.lines.get(role) if role.startswith(ROLE_PREFIX) else getattr(self, role, None)

    def data(self, role: str) -> bytes:
        """A role's current file."""
        found = self.metadata(role)
        assert found is not None
        return self.files[TIMESTAMP if role == "timestamp" else file_name(role, found.signed.version)]


def file_name(role: str, version: int) -> str:
    """A metadata file's name with consistent snapshots (clause 3.5.1)."""
    return f"{version}.{role}.json"


def split_name(name: str) -> tuple[int, str] | None:
    """Version (0: none in the name) and role of a metadata file; None for any other name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    role = found["role"]
    if role not in TOP_ROLES and not role.startswith(ROLE_PREFIX):
        return None
    if found["version"] is None and role != "timestamp":
        return None
    return int(found["version"] or 0), role


def root_versions(files: Mapping[str, bytes]) -> list[int]:
    """All versions of the root that there are, rising."""
    named = (split_name(name) for name in files)
    return sorted(found[0] for found in named if found and found[1] == "root")


def parse(data: bytes, what: str) -> "Metadata[Any]":
    """Metadata out of bytes. Raises FailedPrecondition METADATA_BROKEN."""
    from tuf.api.metadata import Metadata
    from tuf.api.serialization import DeserializationError

    if len(data) > limits.tuf_file_bytes_max:
        raise broken(f"{what} has {len(data)} bytes, at most {limits.tuf_file_bytes_max} are allowed")
    try:
        return Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise broken(f"{what} is no TUF metadata ({error})") from None


def read(files: Mapping[str, bytes]) -> Repository | None:
    """The current state; None where there is no timestamp, that is before `init` is done.

    Every signature, length and hash is checked: what was changed by other hands is not signed again by ours. Raises
    FailedPrecondition METADATA_BROKEN.
    """
    if TIMESTAMP not in files:
        return None
    from tuf.api.exceptions import RepositoryError

    try:
        return _read(files)
    except RepositoryError as error:
        raise broken(str(error)) from None


def _read(files: Mapping[str, bytes]) -> Repository:
    versions = root_versions(files)
    if not versions or versions != list(range(versions[0], versions[-1] + 1)):
        raise broken("there is no root, or a version of it is missing between others")
    root = _verified_root(files, versions)
    timestamp = _role(files[TIMESTAMP], "timestamp", root)
    snapshot_meta = timestamp.signed.snapshot_meta
    snapshot = _role(_found(files, "snapshot", snapshot_meta), "snapshot", root)
    targets = _role(_found(files, "targets", _meta(snapshot, "targets")), "targets", root)
    delegations = targets.signed.delegations
    names = list(delegations.roles or ()) if delegations else []
    lines = {name: _role(_found(files, name, _meta(snapshot, name)), name, targets) for name in names}
    return Repository(files, root, timestamp, snapshot, targets, lines)


def _verified_root(files: Mapping[str, bytes], versions: list[int]) -> "Metadata[Root]":
    """The newest root, each version signed by the one before (clause 5.3.4)."""
    before: Metadata[Root] | None = None
    for version in versions:
        root = parse(files[file_name("root", version)], f"root {version}")
        if root.signed.type != "root" or root.signed.version != version:
            raise broken(f"{file_name('root', version)} is another file")
        for judge in (before or root, root):
            judge.signed.verify_delegate("root", root.signed_bytes, root.signatures)
        before = root
    assert before is not None
    return before


def _role(data: bytes, role: str, delegator: "Metadata[Any]") -> "Metadata[Any]":
    metadata = parse(data, role)
    if metadata.signed.type != (role if role in TOP_ROLES else "targets"):
        raise broken(f"the file of {role} is that of another role")
    delegator.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    return metadata


def _meta(snapshot: "Metadata[Snapshot]", role: str) -> "MetaFile":
    meta = snapshot.signed.meta.get(f"{role}.json")
    if meta is None:
        raise broken(f"the snapshot doesn't name {role}")
    return meta


def _found(files: Mapping[str, bytes], role: str, meta: "MetaFile") -> bytes:
    name = file_name(role, meta.version)
    if name not in files:
        raise broken(f"{name} is missing")
    meta.verify_length_and_hashes(files[name])
    return files[name]


def closure(files: Mapping[str, bytes], timestamp: bytes) -> list[str]:
    """The files that a timestamp speaks of: its snapshot and the targets roles in it, as far as they are in ``files``."""
    signed = parse(timestamp, "timestamp").signed
    if signed.type != "timestamp":
        raise broken("the timestamp is another file")
    snapshot_name = file_name("snapshot", signed.snapshot_meta.version)
    if snapshot_name not in files:
        return []
    snapshot = parse(files[snapshot_name], snapshot_name).signed
    if snapshot.type != "snapshot":
        raise broken(f"{snapshot_name} is another file")
    meta = sorted(snapshot.meta.items())
    return [*(file_name(key.removesuffix(".json"), value.version) for key, value in meta), snapshot_name]


def broken(problem: str) -> FailedPrecondition:
    """The folder's metadata can't be built on."""
    return FailedPrecondition(
        f"the publisher's metadata: {problem}; restore metadata/ from a copy, or `appliance publish fetch` it from the "
        "registry",
        reason="METADATA_BROKEN",
    )
