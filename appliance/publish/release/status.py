"""What is released where, what expires when, whose signatures are missing, and whether the registry knows it all."""

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from appliance.errors import ApplianceError
from appliance.publish.release import keys, release_plan, roles, signing, upload
from appliance.publish.release.publisher import Publisher
from appliance.publish.release.repository import TIMESTAMP, TOP_ROLES, Repository
from appliance.publish.release.upload import Registry
from appliance.registry.release import ROLE_PREFIX, Release

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata

# A role is to be renewed when less than this share of its time is left.
_SOON = 0.25


class KeyStatus(msgspec.Struct, frozen=True):
    """A key of a role; ``here``: whether keys/ has its private half."""

    keyid: str
    here: bool


class RoleStatus(msgspec.Struct, frozen=True):
    """``expiry`` is "fine", "soon" or "expired"."""

    role: str
    version: int
    expires_s: int
    expiry: str
    threshold: int
    keys: tuple[KeyStatus, ...]


class Waiting(msgspec.Struct, frozen=True):
    """A change that waits for signatures; ``missing`` in words."""

    changes: tuple[str, ...]
    missing: str


class Status(msgspec.Struct, frozen=True):
    """``registry``: "none", "current", "behind", "newer" (somebody else has published), or what went wrong."""

    prefix: str
    roles: tuple[RoleStatus, ...]
    releases: tuple[Release, ...]
    waiting: Waiting | None
    registry: str
    unused_keys: tuple[str, ...]


class _Pair(NamedTuple):
    role: str
    metadata: Any


def status(publisher: Publisher, registry: Registry | None) -> Status:
    """All of it; a registry that can't be reached is part of the answer."""
    base = publisher.read()
    pairs = _pairs(base) if base else []
    return Status(
        prefix=publisher.settings.prefix,
        roles=tuple(_role(publisher, base, pair) for pair in pairs if base),
        releases=tuple(r for pair in pairs if pair.role.startswith(ROLE_PREFIX) for r in roles.released(pair.metadata)),
        waiting=_waiting(publisher, base),
        registry=_registry(publisher, registry) if base else "none",
        unused_keys=_unused(publisher, base) if base else (),
    )


def _pairs(base: Repository) -> list[_Pair]:
    return [_Pair(role, base.metadata(role)) for role in (*TOP_ROLES, *sorted(base.lines))]


def _role(publisher: Publisher, base: Repository, pair: _Pair) -> RoleStatus:
    delegator = base.root if pair.role in TOP_ROLES else base.targets
    role = delegator.signed.get_delegated_role(pair.role)
    expires_s = int(pair.metadata.signed.expires.timestamp())
    left_s = expires_s - publisher.now_s
    soon = left_s < _SOON * publisher.settings.days(pair.role) * 86_400
    return RoleStatus(
        role=pair.role,
        version=pair.metadata.signed.version,
        expires_s=expires_s,
        expiry="expired" if left_s <= 0 else "soon" if soon else "fine",
        threshold=role.threshold,
        keys=tuple(KeyStatus(keyid, publisher.signers.has(keyid)) for keyid in role.keyids),
    )


def _waiting(publisher: Publisher, base: Repository | None) -> Waiting | None:
    try:
        request = publisher.waiting(base)
    except ApplianceError as error:
        return Waiting((), error.message)
    if request is None:
        return None
    return Waiting(request.words, signing.told(signing.missing(base, request.change)) or "nothing: combine it")


def _registry(publisher: Publisher, registry: Registry | None) -> str:
    if registry is None:
        return "none"
    files = publisher.workspace.files()
    try:
        remote = upload.fetch(registry.source, publisher.settings.tuf_repository, TIMESTAMP)
        release_plan.names(files, remote)
    except ApplianceError as error:
        return "newer" if error.reason == "REGISTRY_NEWER" else error.message
    return "current" if remote == files[TIMESTAMP] else "behind"


def _unused(publisher: Publisher, base: Repository) -> tuple[str, ...]:
    """Names of private keys that no role has any more."""
    pairs: list[tuple[Metadata[Any], str]] = [
        *((base.root, role) for role in TOP_ROLES),
        *((base.targets, role) for role in base.lines),
    ]
    names = {keys.stem("", keyid) for judge, role in pairs for keyid in judge.signed.get_delegated_role(role).keyids}
    if publisher.workspace.pending() is not None:
        return ()  # a key may be one that the change brings in
    found = sorted(path.stem for path in publisher.workspace.keys.glob("*.pem"))
    return tuple(name for name in found if f".{name.rpartition('.')[2]}" not in names)
