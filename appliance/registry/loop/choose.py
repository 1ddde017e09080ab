"""Which release of each line this box should run, and why not another. Pure: what is known comes in, choices come out.

A choice is made anew at every poll from what is signed, what is stored and what runs. So nothing that a power cut takes
away is needed again: a pull that broke off is chosen again, and goes on where it was.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from appliance import semver
from appliance.registry.release import Release
from appliance.registry.sync import waves


class Box(NamedTuple):
    """Who chooses. ``hardware``: words such as "x86_64" and "cuda"; ``pins``: line -> version."""

    device: str
    appliance: str
    channel: str = "stable"
    region: str = ""
    hardware: frozenset[str] = frozenset()
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    pins: Mapping[str, str] = {}


class Known(NamedTuple):
    """What is known of a line here. ``active``: version and digest of what runs, "" where nothing does.

    ``quarantined`` are digests. ``counter``: the highest of a release that has run here, -1: none has.
    """

    active: str = ""
    digest: str = ""
    quarantined: frozenset[str] = frozenset()
    counter: int = -1


NOTHING = Known()


class Choice(NamedTuple):
    """``release`` None: nothing of the line applies, and ``reason`` says why the newest doesn't.

    ``installed``: it is what runs. ``reason`` may also say why a newer one than this is not taken.
    """

    line: str
    release: Release | None
    installed: bool = False
    reason: str = ""


def choose(releases: Sequence[Release], box: Box, known: Mapping[str, Known], now_s: int) -> tuple[Choice, ...]:
    """One choice for each line that has releases, by name."""
    by_line: dict[str, list[Release]] = {}
    for release in releases:
        by_line.setdefault(release.line, []).append(release)
    return tuple(_of_line(line, by_line[line], box, known.get(line, NOTHING), now_s) for line in sorted(by_line))


def _of_line(line: str, releases: list[Release], box: Box, known: Known, now_s: int) -> Choice:
    pin = box.pins.get(line, "")
    if refused := _line_refused(line, box):
        return Choice(line, None, reason=refused)
    first_reason = ""
    for release in sorted(releases, key=lambda each: each.counter, reverse=True):
        reason = why_not(release, box, known, pin, now_s)
        if not reason:
            return Choice(line, release, release.digest == known.digest, first_reason)
        first_reason = first_reason or f"{release.version}: {reason}"
    return Choice(line, None, reason=first_reason)


def _line_refused(line: str, box: Box) -> str:
    if not any(fnmatchcase(line, pattern) for pattern in box.allow):
        return "registry.allow doesn't name it"
    denied = next((pattern for pattern in box.deny if fnmatchcase(line, pattern)), "")
    return f"registry.deny names it ({denied})" if denied else ""


def why_not(release: Release, box: Box, known: Known, pin: str, now_s: int) -> str:
    """Why this release is not for this box now, "" when it is."""
    if release.digest in known.quarantined:
        return "it is quarantined here: appliance models activate --force lifts that"
    if pin:
        return "" if release.version == pin else f"registry.pins asks for {pin}"
    if box.channel not in release.channels:
        return f"it is released to {', '.join(release.channels)}, this box takes {box.channel}"
    if release.regions and box.region not in release.regions:
        return f"it is for the regions {', '.join(release.regions)}, this box is in {box.region or 'none'}"
    if release.hardware and not any(set(each.split("+")) <= box.hardware for each in release.hardware):
        return f"it needs {' or '.join(release.hardware)}, this box has {', '.join(sorted(box.hardware)) or 'none'}"
    if semver.sort_key(box.appliance) < semver.sort_key(release.minimum_appliance):
        return f"it needs appliance {release.minimum_appliance}, this is {box.appliance}"
    if release.counter < known.counter:
        return "a later release has run here; registry.pins or a new release would bring it back"
    return "" if release.digest == known.digest else _wave_reason(release, box.device, now_s)


def wave_share(device: str, release: Release) -> float:
    """This box's place among all, from 0 to 100 percent: the same for ever, another one for each release."""
    return waves.place(device, release.line, release.version) / (waves.STEPS / 100)


def _wave_reason(release: Release, device: str, now_s: int) -> str:
    if not release.waves:
        return ""
    share = wave_share(device, release)
    mine = [wave.from_s for wave in release.waves if share < wave.percent]
    if not mine:
        return "none of its waves reaches this box"
    return "" if min(mine) <= now_s else f"its wave opens in {_span(min(mine) - now_s)}"


def _span(seconds: int) -> str:
    return f"{seconds // 3600} h" if seconds >= 2 * 3600 else f"{-(-seconds // 60)} min"
