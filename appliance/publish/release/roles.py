"""New versions of metadata out of old ones. Nothing here signs, reads a file or asks a clock.

A Change holds the new, unsigned metadata of every role that a person decides about: root, targets, and the lines'.
Snapshot and timestamp follow from them (signing.py).
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from appliance import limits
from appliance.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from appliance.publish.release.repository import TOP_ROLES, Repository
from appliance.registry import release as releases
from appliance.registry.release import Release
from appliance.store import model_rules

if TYPE_CHECKING:
    from securesystemslib.signer import Key
    from tuf.api.metadata import Metadata, Targets

# By role, in the order in which they are shown.
Change = dict[str, "Metadata[Any]"]
# When a new version of a role's metadata expires.
Expires = Callable[[str], datetime]


def first(keys: Mapping[str, Sequence["Key"]], thresholds: Mapping[str, int], expires: Expires) -> Change:
    """Root and targets of a new repository. ``keys`` and ``thresholds`` are by role, for all four top-level roles."""
    from tuf.api.metadata import Metadata, Root, Targets

    root = Root(expires=expires("root"), consistent_snapshot=True)
    for role in TOP_ROLES:
        check_keys(role, len(keys[role]), thresholds[role])
        for key in keys[role]:
            root.add_key(key, role)
        root.roles[role].threshold = thresholds[role]
    return {"root": Metadata(root), "targets": Metadata(Targets(expires=expires("targets")))}


def check_keys(role: str, count: int, threshold: int) -> None:
    """Raises InvalidArgument THRESHOLD when so many keys can't meet the threshold, or are too many."""
    if not threshold <= count <= limits.publish_keys_per_role_max:
        raise InvalidArgument(
            f"{role}: {count} keys for a threshold of {threshold}; there must be at least as many, and at most "
            f"{limits.publish_keys_per_role_max}",
            reason="THRESHOLD",
        )


def edited(repository: Repository, role: str, expires: Expires) -> "Metadata[Any]":
    """A copy of a role's metadata with the next version number, a new expiry and no signatures. Raises NotFound."""
    current = repository.metadata(role)
    if current is None or role in ("snapshot", "timestamp"):
        raise NotFound(f"there is no role {role} that could be edited", reason="NO_ROLE")
    metadata = copy.deepcopy(current)
    metadata.signatures.clear()
    metadata.signed.version += 1
    metadata.signed.expires = expires(role)
    return metadata


def renew(repository: Repository, names: Sequence[str], expires: Expires) -> Change:
    """The same contents with a later expiry."""
    return {role: edited(repository, role, expires) for role in names if role not in ("snapshot", "timestamp")}


def add_line(repository: Repository, line: str, keys: Sequence["Key"], threshold: int, expires: Expires) -> Change:
    """Delegates a model line to keys of its own. Raises AlreadyExists LINE_EXISTS, InvalidArgument."""
    from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets

    check_new_line(repository, line)
    role = releases.role_of(line)
    check_keys(role, len({key.keyid for key in keys}), threshold)
    targets = edited(repository, "targets", expires)
    if targets.signed.delegations is None:
        targets.signed.delegations = Delegations({}, {})
    paths = [releases.target_path(line, "*")]
    delegated = DelegatedRole(role, [], threshold, terminating=True, paths=paths)
    targets.signed.delegations.roles[role] = delegated
    for key in keys:
        targets.signed.add_key(key, role)
    return {"targets": targets, role: Metadata(Targets(expires=expires(role)))}


def check_new_line(repository: Repository, line: str) -> None:
    """Raises InvalidArgument for a name that no model can have, AlreadyExists LINE_EXISTS, FailedPrecondition LINES."""
    model_rules.check_name(line)
    if releases.role_of(line) in repository.lines:
        raise AlreadyExists(f"the line {line} is there already", reason="LINE_EXISTS")
    if len(repository.lines) >= limits.publish_lines_max:
        raise FailedPrecondition(f"at most {limits.publish_lines_max} lines are possible", reason="LINES")


def line_role(repository: Repository, line: str) -> str:
    """The line's role. Raises NotFound NO_LINE."""
    role = releases.role_of(line)
    if role not in repository.lines:
        known = ", ".join(name.removeprefix(releases.ROLE_PREFIX) for name in repository.lines) or "none yet"
        raise NotFound(f"there is no line {line} (lines: {known}): appliance publish line add {line}", reason="NO_LINE")
    return role


def next_counter(repository: Repository, line: str) -> int:
    """The counter of the line's next release: the version of the metadata that will hold it, which never falls."""
    return repository.lines[line_role(repository, line)].signed.version + 1


def put_release(repository: Repository, release: Release, expires: Expires) -> Change:
    """A release, in place of an earlier one of the same version."""
    from tuf.api.metadata import TargetFile

    role = line_role(repository, release.line)
    metadata = edited(repository, role, expires)
    path = releases.target_path(release.line, release.version)
    digest = release.digest.removeprefix("sha256:")
    custom = {"custom": releases.encode(release)}
    releases.decode(path, release.manifest_bytes, digest, custom["custom"])  # as a box will
    metadata.signed.targets[path] = TargetFile(release.manifest_bytes, {"sha256": digest}, path, custom)
    return {role: metadata}


def withdraw(repository: Repository, line: str, version: str, expires: Expires) -> Change:
    """The line without a version. Raises NotFound NO_RELEASE."""
    role = line_role(repository, line)
    metadata = edited(repository, role, expires)
    if metadata.signed.targets.pop(releases.target_path(line, version), None) is None:
        known = ", ".join(sorted(r.version for r in released(repository.lines[role]))) or "none"
        raise NotFound(f"{line} {version} is not released (released: {known})", reason="NO_RELEASE")
    return {role: metadata}


def released(metadata: "Metadata[Targets]") -> list[Release]:
    """The releases of a line's metadata, the last one first. Raises releases.BadRelease."""
    found = [
        releases.decode(path, target.length, target.hashes.get("sha256", ""), target.custom)
        for path, target in metadata.signed.targets.items()
    ]
    return sorted(found, key=lambda release: -release.counter)


def rotate(repository: Repository, role: str, new: "Key", old: str, expires: Expires) -> Change:
    """Puts ``new`` into a role in place of the key with the id ``old``; what the role has signed is made anew.

    Raises NotFound NO_ROLE or NO_KEY, InvalidArgument KEY_IN_USE.
    """
    delegator = "root" if role in TOP_ROLES else "targets"
    parent = edited(repository, delegator, expires)
    keyids = role_keyids(repository, role)
    if old not in keyids:
        raise NotFound(f"{role} has no key {old}", reason="NO_KEY")
    if new.keyid in keyids:
        raise InvalidArgument(f"{role} has the key {new.keyid} already", reason="KEY_IN_USE")
    parent.signed.add_key(new, role)
    parent.signed.revoke_key(old, role)
    change: Change = {delegator: parent}
    if role not in ("root", "snapshot", "timestamp"):
        change[role] = edited(repository, role, expires)
    return change


def role_keyids(repository: Repository, role: str) -> list[str]:
    """The ids of a role's keys, in the order in which they came. Raises NotFound NO_ROLE."""
    delegator = repository.root if role in TOP_ROLES else repository.targets
    try:
        found: list[str] = delegator.signed.get_delegated_role(role).keyids
    except ValueError:
        known = ", ".join([*TOP_ROLES, *repository.lines])
        raise NotFound(f"there is no role {role}; roles: {known}", reason="NO_ROLE") from None
    return found
