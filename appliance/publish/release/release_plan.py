"""Which metadata files go up, and in which order; and whether they may. Pure: files in, names out.

Order: the lines' roles, targets, snapshot, roots rising, timestamp. Until the timestamp is there, a box sees the old
state whole (TUF specification 1.0, clause 3.5.1). Roots come late because a box reads a new root at once, and for the
moment between the two it can't read metadata that rotated keys have signed anew.
"""

from collections.abc import Mapping

from appliance.errors import AlreadyExists, FailedPrecondition
from appliance.publish.release import repository
from appliance.publish.release.repository import TIMESTAMP, file_name

_HELP = (
    "somebody else has published since: `appliance publish fetch` takes over what the registry has (what you made here "
    "is set aside), then say again what you wanted"
)


def names(files: Mapping[str, bytes], remote: bytes | None) -> list[str]:
    """The files that a registry may lack, in the order of upload; ``remote`` is its timestamp.

    Raises AlreadyExists REGISTRY_NEWER when that is none of ours, FailedPrecondition NO_METADATA when nothing is current.
    """
    if TIMESTAMP not in files:
        raise FailedPrecondition("nothing has been signed yet: see `appliance publish status`", reason="NO_METADATA")
    known = set(check_ancestor(files, remote)) if remote is not None else set()
    targets = [name for name in repository.closure(files, files[TIMESTAMP]) if name not in known]
    roots = [file_name("root", version) for version in repository.root_versions(files)]
    return [*sorted(targets, key=_rank), *roots, TIMESTAMP]


def check_ancestor(files: Mapping[str, bytes], remote: bytes) -> list[str]:
    """The files that the registry's timestamp speaks of, which it therefore has. Raises AlreadyExists REGISTRY_NEWER."""
    try:
        version = repository.parse(remote, "the registry's timestamp").signed.version
    except FailedPrecondition as error:
        raise FailedPrecondition(
            f"{error.message.split(';')[0]}; look at who writes to this registry", reason="REGISTRY_BROKEN"
        ) from None
    ours = repository.parse(files[TIMESTAMP], TIMESTAMP).signed.version
    if version > ours:
        raise AlreadyExists(
            f"the registry has timestamp {version}, this folder {ours}: {_HELP}", reason="REGISTRY_NEWER"
        )
    if files.get(file_name("timestamp", version)) != remote:
        raise AlreadyExists(
            f"the registry's timestamp {version} was not made in this folder: {_HELP}", reason="REGISTRY_NEWER"
        )
    return repository.closure(files, remote)


def _rank(name: str) -> tuple[int, str]:
    found = repository.split_name(name)
    role = found[1] if found else ""
    return {"targets": 1, "snapshot": 2}.get(role, 0), name
