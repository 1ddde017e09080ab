"""Releases, stored versions and boxes for tests of plans, and how a plan is carried out on them."""

from collections.abc import Mapping

import msgspec

from appliance.registry.release import Release
from appliance.registry.sync.facts import Blob, Device, Facts, Line, Policy, Stored
from appliance.registry.sync.planner import SyncPlan

NOW = 1_800_000_000
BOX = Device("device-1", "0.4.0", region="south", hardware=frozenset({"x86_64", "avx2"}))
MIB = 1024 * 1024


def release(version: str = "1.0.0", counter: int = 1, line: str = "press", **more: object) -> Release:
    """Its digest says which one it is."""
    fields: dict[str, object] = {"digest": digest_of(line, version), "bytes": 10 * MIB, **more}
    return Release(
        line=line,
        version=version,
        repository=f"models/{line}",
        manifest_bytes=500,
        counter=counter,
        released_s=NOW - 10,
        **fields,  # type: ignore[arg-type]
    )


def digest_of(line: str, version: str) -> str:
    """Readable, as nothing here hashes."""
    return f"sha256:{line}-{version}"


def blobs(line: str, version: str, size: int = 10 * MIB) -> frozenset[Blob]:
    """One file that only this version has."""
    return frozenset({Blob(f"{line}-{version}-file", size)})


def stored(version: str = "1.0.0", line: str = "press", added_s: int = 0, **more: object) -> Stored:
    """Brought by an update, unless said otherwise."""
    known: dict[str, object] = {"blobs": blobs(line, version), "brought": True, **more}
    return Stored(line, version, digest_of(line, version), added_s=added_s, **known)  # type: ignore[arg-type]


def facts(*releases: Release, policy: Policy = Policy(), device: Device = BOX, **more: object) -> Facts:  # noqa: B008
    """Fresh metadata, and room for everything."""
    known: dict[str, object] = {"now_s": NOW, "fresh_until_s": NOW + 3600, **more}
    return Facts(device=device, policy=policy, releases=releases, **known)  # type: ignore[arg-type]


def carry_out(before: Facts, plan: SyncPlan) -> Facts:
    """The box after the plan: every update went well."""
    gone = {(removal.line, removal.version) for removal in plan.removals}
    held = [version for version in before.stored if (version.line, version.version) not in gone]
    lines: dict[str, Line] = dict(before.lines)
    for install in plan.installs:
        found = install.release
        if all((found.line, found.version) != (version.line, version.version) for version in held):
            contents = before.contents(found) or frozenset({Blob(f"{found.digest}-all", found.bytes)})
            held.append(Stored(found.line, found.version, found.digest, contents, before.now_s, True))
        if install.activate:
            line = lines.get(found.line, Line())
            lines[found.line] = line._replace(
                active=found.version, previous=line.active, counter=max(line.counter, found.counter)
            )
    used = used_bytes(held, before.loose) - used_bytes(before.stored, before.loose)
    return msgspec.structs.replace(before, stored=tuple(held), lines=lines, free_bytes=before.free_bytes - used)


def used_bytes(held: object, loose: frozenset[Blob] = frozenset()) -> int:
    """Each blob once."""
    return sum(blob.bytes for blob in loose.union(*(version.blobs for version in held)))  # type: ignore[attr-defined]


def runs(version: str, previous: str = "", counter: int = 1, **more: object) -> Mapping[str, Line]:
    """Of the line press."""
    return {"press": Line(version, previous, counter=counter, **more)}  # type: ignore[arg-type]
