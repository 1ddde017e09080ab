"""What a set of TUF files says: the releases, with every signature, version and hash checked again. Reads and writes nothing.

The client (updater.py) has verified these files already when they were fetched. They have been on a disk since, and the
client's interface answers for single targets only, so this reads them once more through python-tuf's metadata classes.
Expiry is not looked at here: what was verified once stays readable.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from appliance import limits
from appliance.registry.release import ROLE_PREFIX, BadRelease, Release, decode, target_path
from appliance.registry.trust.failures import Untrusted
from appliance.registry_names import REPOSITORY, REPOSITORY_CHARS_MAX

TOP_FILES = ("root.json", "timestamp.json", "snapshot.json", "targets.json")
# The signed part of metadata may say in this field when it was signed (Unix time); others are to ignore it (clause 4).
SIGNED_FIELD = "signed_s"


class RoleState(NamedTuple):
    """A role's metadata as they are trusted now. Times are Unix times; ``signed_s`` 0: it doesn't say."""

    name: str
    version: int
    expires_s: int
    signed_s: int = 0


class Problem(NamedTuple):
    """Why a line has no releases, or not all. ``reason`` as that of errors: METADATA_EXPIRED, METADATA_UNTRUSTED, ..."""

    line: str
    reason: str
    message: str


class Verified(NamedTuple):
    """``lines``: all that the publisher has, whether wanted or not. ``at_s``: when it was verified, 0: some time ago."""

    releases: tuple[Release, ...]
    lines: tuple[str, ...]
    roles: tuple[RoleState, ...]
    problems: tuple[Problem, ...] = ()
    at_s: int = 0

    def allows(self, line: str, version: str, digest: str) -> bool:
        """Whether this very artefact is released, and not withdrawn."""
        return any((r.line, r.version, r.digest) == (line, version, digest) for r in self.releases)

    @property
    def fresh_until_s(self) -> int:
        """The earliest expiry of the four top-level roles: what all of them are good for."""
        return min(role.expires_s for role in self.roles[: len(TOP_FILES)])


def line_of(role: DelegatedRole) -> str:
    """The line that a delegation is for; empty when its name or its paths are those of no line.

    The paths of two lines never overlap, so whose word counts for a path needs no search (clause 5.6.7).
    """
    line = role.name.removeprefix(ROLE_PREFIX)
    return line if role.name.startswith(ROLE_PREFIX) and role.paths == [target_path(line, "*")] else ""


def read(files: Mapping[str, bytes], *, at_s: int = 0, older_lines: bool = False) -> Verified:
    """The releases in the four top-level files and those of some lines. Raises Untrusted when the set doesn't fit together.

    ``older_lines``: a line's file may be of a version before the one that the snapshot names, and one that fits nothing is
    a problem of its line only.
    """
    try:
        return _read(files, at_s, older_lines)
    except (RepositoryError, ValueError) as error:
        raise Untrusted(f"the stored metadata don't fit together: {str(error)[:200]}") from None


def _read(files: Mapping[str, bytes], at_s: int, older_lines: bool) -> Verified:
    missing = [name for name in TOP_FILES if name not in files]
    if missing:
        raise ValueError(f"{missing[0]} is missing")
    root = _parse(files["root.json"], Root)
    root.signed.verify_delegate(Root.type, root.signed_bytes, root.signatures)
    timestamp = _signed(files["timestamp.json"], Timestamp, root, Timestamp.type)
    snapshot = _signed(files["snapshot.json"], Snapshot, root, Snapshot.type)
    _check_meta(timestamp.signed.snapshot_meta, files["snapshot.json"], snapshot, older=False)
    targets = _signed(files["targets.json"], Targets, root, Targets.type)
    _check_meta(_meta(snapshot, "targets.json"), files["targets.json"], targets, older=False)
    delegations = targets.signed.delegations
    delegated = list((delegations.roles or {}).values()) if delegations else []
    lines = {line_of(role): role for role in delegated if line_of(role)}
    problems = [
        Problem(role.name, "METADATA_UNTRUSTED", "a delegation that is none of a model line is left out")
        for role in delegated
        if not line_of(role)
    ]
    tops = (root, timestamp, snapshot, targets)
    roles = [_state(name.removesuffix(".json"), m) for name, m in zip(TOP_FILES, tops, strict=True)]
    releases: list[Release] = []
    for line, role in lines.items():
        name = f"{role.name}.json"
        if name not in files:
            continue
        try:
            metadata = _signed(files[name], Targets, targets, role.name)
            _check_meta(_meta(snapshot, name), files[name], metadata, older=older_lines)
        except (RepositoryError, ValueError) as error:
            if not older_lines:
                raise
            problems.append(Problem(line, "METADATA_UNTRUSTED", str(error)[:200]))
            continue
        roles.append(_state(role.name, metadata))
        others = [other for other in delegated[: delegated.index(role)] if not line_of(other)]
        found, bad = _releases(line, role, metadata.signed, others, targets.signed)
        releases += found
        problems += [Problem(line, "BAD_RELEASE", text) for text in bad[: limits.tuf_problems_max]]
    return Verified(tuple(releases), tuple(lines), tuple(roles), tuple(problems), at_s)


def _parse(data: bytes, kind: type[Any]) -> Metadata[Any]:
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    if metadata.signed.type != kind.type:
        raise ValueError(f"metadata of the type {kind.type} were expected, these are {metadata.signed.type}")
    return metadata


def _signed(data: bytes, kind: type[Any], delegator: Metadata[Any], role: str) -> Metadata[Any]:
    metadata = _parse(data, kind)
    delegator.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    return metadata


def _meta(snapshot: Metadata[Snapshot], name: str) -> MetaFile:
    meta = snapshot.signed.meta.get(name)
    if meta is None:
        raise ValueError(f"the snapshot doesn't name {name}")
    return meta


def _check_meta(meta: MetaFile, data: bytes, metadata: Metadata[Any], *, older: bool) -> None:
    version = metadata.signed.version
    if older and version < meta.version:
        return
    if version != meta.version:
        raise ValueError(f"metadata of the type {metadata.signed.type}: version {version} instead of {meta.version}")
    meta.verify_length_and_hashes(data)


def _state(name: str, metadata: Metadata[Any]) -> RoleState:
    signed_s = metadata.signed.unrecognized_fields.get(SIGNED_FIELD)
    return RoleState(
        name,
        metadata.signed.version,
        int(metadata.signed.expires.timestamp()),
        signed_s if type(signed_s) is int and signed_s > 0 else 0,
    )


def _releases(
    line: str, role: DelegatedRole, signed: Targets, before: list[DelegatedRole], top: Targets
) -> tuple[list[Release], list[str]]:
    """The line's releases, and what is wrong with others. What its keys say about anything else does not count.

    A path that the top-level targets name themselves, or that a role ``before`` the line's may decide about, is not the
    line's alone (clause 5.6.7).
    """
    found, bad = [], []
    for path, target in signed.targets.items():
        if not role.is_delegated_path(path):
            bad.append(f"the keys of {line} have signed {path[:200]!r}, which is not theirs to sign")
        elif path in top.targets or any(other.is_delegated_path(path) for other in before):
            bad.append(f"{path[:200]} belongs to another role as well")
        else:
            try:
                found.append(_release(path, target))
            except BadRelease as error:
                bad.append(str(error)[:500])
    return found, bad


def _release(path: str, target: TargetFile) -> Release:
    release = decode(path, target.length, target.hashes.get("sha256", ""), target.custom)
    if len(release.repository) > REPOSITORY_CHARS_MAX or not REPOSITORY.fullmatch(release.repository):
        raise BadRelease(f"target {path}: {release.repository[:200]!r} cannot be a repository")
    return release
