"""Who must sign a change, who has, and what follows when all have: snapshot, timestamp, and the files of all of it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from appliance import limits
from appliance.errors import FailedPrecondition, ResourceExhausted
from appliance.publish.release.repository import TIMESTAMP, TOP_ROLES, Repository, file_name
from appliance.publish.release.roles import Change, Expires
from appliance.publish.release.signers import Signers

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata

_HASHES = ["sha256"]


class Need(NamedTuple):
    """One threshold that a role's new metadata must meet. ``by`` says whose keys: "targets", or "the old root"."""

    role: str
    by: str
    threshold: int
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]

    @property
    def missing(self) -> int:
        """How many signatures are still needed."""
        return max(0, self.threshold - len(self.signed))


def needs(repository: Repository | None, change: Change) -> list[Need]:
    """All thresholds of a change; a new root must satisfy the old one, too (TUF specification 1.0, clause 5.3.4)."""
    return [need for role in change for need in role_needs(repository, change, role, change[role])]


def role_needs(repository: Repository | None, change: Change, role: str, metadata: "Metadata[Any]") -> list[Need]:
    """The thresholds of one role, as its delegator has them after the change."""
    delegator_name = "root" if role in TOP_ROLES else "targets"
    judges = [(role, _after(repository, change, delegator_name))]
    if role == "root" and repository is not None:
        judges.insert(0, ("the old root", repository.root))
    found = []
    for by, judge in judges:
        result = judge.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        found.append(Need(role, by, result.threshold, tuple(result.signed), tuple(result.unsigned)))
    return found


def _after(repository: Repository | None, change: Change, role: str) -> "Metadata[Any]":
    metadata = change.get(role) or (repository and repository.metadata(role))
    if not metadata:
        raise FailedPrecondition(f"there is no {role} yet: run `appliance publish init`", reason="NO_METADATA")
    return metadata


def sign(repository: Repository | None, change: Change, signers: Signers) -> list[tuple[str, str]]:
    """Signs with every key at hand that counts; (role, key id) of each new signature."""
    made = []
    for need in needs(repository, change):
        for keyid in need.unsigned:
            if signers.has(keyid) and (need.role, keyid) not in made:
                change[need.role].sign(signers.signer(keyid), append=True)
                made.append((need.role, keyid))
    return made


def missing(repository: Repository | None, change: Change) -> list[Need]:
    """The thresholds that are not met."""
    return [need for need in needs(repository, change) if need.missing]


def finish(
    repository: Repository | None, change: Change, signers: Signers, expires: Expires, now_s: int
) -> dict[str, bytes]:
    """The files of a change that all thresholds of are met, with a new snapshot and timestamp.

    The timestamp says when it was signed (``now_s``): a box whose clock was set back knows better from then on.

    Raises FailedPrecondition SIGNATURES, or KEY_MISSING when snapshot and timestamp can't be signed here.
    """
    if short := missing(repository, change):
        raise FailedPrecondition(f"signatures are missing: {told(short)}", reason="SIGNATURES")
    files = {file_name(role, metadata.signed.version): metadata.to_bytes() for role, metadata in change.items()}
    snapshot = _snapshot(repository, change, files, expires)
    _sign_online(repository, change, "snapshot", snapshot, signers)
    snapshot_name = file_name("snapshot", snapshot.signed.version)
    files[snapshot_name] = snapshot.to_bytes()
    timestamp = _timestamp(repository, snapshot.signed.version, files[snapshot_name], expires, now_s)
    _sign_online(repository, change, "timestamp", timestamp, signers)
    files[TIMESTAMP] = timestamp.to_bytes()
    for name, data in files.items():
        _check_size(name, data)
    # Never uploaded: shows later that a timestamp of the registry is one of ours.
    files[file_name("timestamp", timestamp.signed.version)] = files[TIMESTAMP]
    return files


def _check_size(name: str, data: bytes) -> None:
    """What boxes would refuse to read is not made. Raises ResourceExhausted METADATA_SIZE."""
    role = name.removesuffix(".json").partition(".")[2] or "timestamp"
    bound = {
        "root": limits.tuf_root_bytes_max,
        "snapshot": limits.tuf_snapshot_bytes_max,
        "timestamp": limits.tuf_timestamp_bytes_max,
    }.get(role, limits.tuf_file_bytes_max)
    if len(data) > bound:
        raise ResourceExhausted(
            f"{name} would have {len(data)} bytes, at most {bound} are read by a box: withdraw what is old",
            reason="METADATA_SIZE",
        )


def _snapshot(
    repository: Repository | None, change: Change, files: Mapping[str, bytes], expires: Expires
) -> "Metadata[Any]":
    from tuf.api.metadata import Metadata, MetaFile, Snapshot

    meta = dict(repository.snapshot.signed.meta) if repository else {}
    for role, metadata in change.items():
        if role != "root":
            version = metadata.signed.version
            meta[f"{role}.json"] = MetaFile.from_data(version, files[file_name(role, version)], _HASHES)
    version = repository.snapshot.signed.version + 1 if repository else 1
    return Metadata(Snapshot(version, expires=expires("snapshot"), meta=meta))


def _timestamp(
    repository: Repository | None, version: int, snapshot: bytes, expires: Expires, now_s: int
) -> "Metadata[Any]":
    from tuf.api.metadata import Metadata, MetaFile, Timestamp

    from appliance.registry.trust.verified import SIGNED_FIELD

    own = repository.timestamp.signed.version + 1 if repository else 1
    meta = MetaFile.from_data(version, snapshot, _HASHES)
    signed = Timestamp(own, expires=expires("timestamp"), snapshot_meta=meta, unrecognized_fields={SIGNED_FIELD: now_s})
    return Metadata(signed)


def _sign_online(
    repository: Repository | None, change: Change, role: str, metadata: "Metadata[Any]", signers: Signers
) -> None:
    (need,) = role_needs(repository, change, role, metadata)
    here = [keyid for keyid in need.unsigned if signers.has(keyid)]
    if len(here) < need.threshold:
        raise FailedPrecondition(
            f"{role} needs {need.threshold} signatures, and {len(here)} of its keys are in keys/: do this where the "
            f"{role} keys are",
            reason="KEY_MISSING",
        )
    for keyid in here[: need.threshold]:
        metadata.sign(signers.signer(keyid), append=True)


def told(short: list[Need]) -> str:
    """What is missing, in words."""
    return "; ".join(
        f"{need.role} has {len(need.signed)} of {need.threshold} signatures"
        + (f" of {need.by}" if " " in need.by else "")
        for need in short
    )
