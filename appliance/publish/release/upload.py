"""Metadata into a registry, file by file in the plan's order. Killed anywhere, the same call completes it."""

from collections.abc import Mapping
from typing import NamedTuple

from appliance.errors import AlreadyExists
from appliance.publish.release import release_plan
from appliance.publish.release.repository import TIMESTAMP, split_name
from appliance.registry.sources.base import Source, Target
from appliance.registry.sources.failures import Absent
from appliance.registry.trust import files as files_of_tuf
from appliance.registry.trust.files import put


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


def fetch(source: Source, repository: str, name: str) -> bytes | None:
    """One metadata file; None when there is none. Raises Malformed, Refused or Unreachable."""
    try:
        return files_of_tuf.read(source, repository, name)
    except Absent:
        return None
