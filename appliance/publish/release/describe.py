"""What a change changes, in words: first what matters, then every single field, so that nothing can hide."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from appliance import limits
from appliance.publish.release import roles
from appliance.publish.release.repository import Repository
from appliance.publish.release.roles import Change
from appliance.registry.release import ROLE_PREFIX, BadRelease, Release

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata


def words(base: Repository | None, change: Change) -> tuple[str, ...]:
    """One line for each thing that changes, always the same for the same change. Raises ValueError for too many."""
    lines: list[str] = []
    for role in sorted(change, key=lambda name: (name != "root", name)):
        before = base.metadata(role) if base else None
        lines += _role(role, before, change[role])
    if len(lines) > limits.signing_details_max:
        raise ValueError(
            f"it changes {len(lines)} things, at most {limits.signing_details_max} can be read by a person"
        )
    return tuple(lines)


def _role(role: str, before: "Metadata[Any] | None", after: "Metadata[Any]") -> Iterator[str]:
    old_version = before.signed.version if before else "none"
    yield f"{role}: version {old_version} -> {after.signed.version}, expires {after.signed.expires:%Y-%m-%d}"
    if role.startswith(ROLE_PREFIX):
        yield from _releases(role.removeprefix(ROLE_PREFIX), before, after)
    old = dict(_fields(before.signed.to_dict())) if before else {}
    new = dict(_fields(after.signed.to_dict()))
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            yield f"  {role} {path}: {_shown(old, path)} -> {_shown(new, path)}"


def _releases(line: str, before: "Metadata[Any] | None", after: "Metadata[Any]") -> Iterator[str]:
    try:
        old = {release.version: release for release in roles.released(before)} if before else {}
        new = {release.version: release for release in roles.released(after)}
    except BadRelease as error:
        raise ValueError(str(error)) from None
    for version in sorted(old.keys() - new.keys()):
        yield f"{line}: {version} is withdrawn"
    for version, release in sorted(new.items()):
        if old.get(version) != release:
            yield f"{line}: {version} is released {told(release)}, manifest {release.digest}"


def told(release: Release) -> str:
    """Where a release goes, in words."""
    parts = [f"to {', '.join(release.channels)}"]
    if release.hardware:
        parts.append(f"for hardware {' or '.join(release.hardware)}")
    if release.regions:
        parts.append(f"in {', '.join(release.regions)}")
    if release.waves:
        parts.append(f"in waves of {', '.join(f'{wave.percent:g}%' for wave in release.waves)}")
    if release.minimum_appliance != "0.0.0":
        parts.append(f"from appliance {release.minimum_appliance} on")
    return " ".join(parts)


def _fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a JSON document with its place."""
    if isinstance(value, dict) and value:
        for key in value:
            yield from _fields(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _fields(item, f"{path}[{index}]")
    else:
        yield path, repr(value)


def _shown(fields: dict[str, str], path: str) -> str:
    return fields.get(path, "nothing")
