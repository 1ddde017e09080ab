"""Which release of a line is for this box: the latest that nothing speaks against.

Nobody's word goes beyond what it is about: a publisher's channel, waves and order give way to an operator's pin; what a
release needs, where it may run and what failed here does not.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from appliance import semver
from appliance.registry.release import Release
from appliance.registry.sync import waves
from appliance.registry.sync.facts import Device, Facts, Line, Policy
from appliance.registry.sync.reasons import Reason, Why

NOTHING = Line()


class Choice(NamedTuple):
    """``release`` is what should run, None: nothing of the line applies. ``passed_over``: later ones, and why not."""

    release: Release | None
    passed_over: tuple[tuple[Release, Reason], ...] = ()


def choose(releases: Sequence[Release], facts: Facts, line: Line, active_digest: str) -> Choice:
    """Of the releases of one line; ``active_digest`` is what runs, "" when nothing does."""
    passed_over: list[tuple[Release, Reason]] = []
    for release in sorted(releases, key=_order, reverse=True):
        reason = why_not(release, facts, line, active_digest)
        if reason is None:
            return Choice(release, tuple(passed_over))
        passed_over.append((release, reason))
    return Choice(None, tuple(passed_over))


def why_not(release: Release, facts: Facts, line: Line, active_digest: str = "") -> Reason | None:
    """Why a release is not for this box now, None when it is. What runs already asks nobody for a wave."""
    policy, device = facts.policy, facts.device
    if refused := _of_line(release.line, policy):
        return refused
    if release.digest in facts.quarantined:
        return Reason(Why.QUARANTINED, f"it is quarantined here: {facts.quarantined[release.digest]}")
    pin = policy.pins.get(release.line, "")
    if pin and release.version != pin:
        return Reason(Why.NOT_PINNED, f"registry.pins asks for {pin}")
    if refused := _needs(release, device):
        return refused
    if pin:
        return None
    if device.channel not in release.channels:
        channels = ", ".join(release.channels) or "none"
        return Reason(Why.CHANNEL, f"it is released to {channels}, this box takes {device.channel}")
    if release.digest == active_digest:
        return None
    if release.counter < line.counter:
        return Reason(
            Why.OLDER, "a later release was installed here; only registry.pins or a new release brings it back"
        )
    return waves.waits(release, device.id, facts.now_s)


def _order(release: Release) -> tuple[int, semver.SortKey, str]:
    """Counters differ unless a publisher made a mistake; even then every box chooses alike."""
    return release.counter, semver.sort_key(release.version), release.digest


def _of_line(line: str, policy: Policy) -> Reason | None:
    if not any(fnmatchcase(line, pattern) for pattern in policy.allow):
        return Reason(Why.NOT_ALLOWED, "registry.allow doesn't name it")
    denied = next((pattern for pattern in policy.deny if fnmatchcase(line, pattern)), None)
    return Reason(Why.DENIED, f"registry.deny names it ({denied})") if denied is not None else None


def _needs(release: Release, device: Device) -> Reason | None:
    if release.regions and device.region not in release.regions:
        where = device.region or "none"
        return Reason(Why.REGION, f"it is for the regions {', '.join(release.regions)}, this box is in {where}")
    if release.hardware and not any(set(each.split("+")) <= device.hardware for each in release.hardware):
        has = ", ".join(sorted(device.hardware)) or "none of it"
        return Reason(Why.HARDWARE, f"it needs {' or '.join(release.hardware)}, this box has {has}")
    if semver.sort_key(device.appliance) < semver.sort_key(release.minimum_appliance):
        return Reason(Why.APPLIANCE, f"it needs appliance {release.minimum_appliance}, this is {device.appliance}")
    return None
