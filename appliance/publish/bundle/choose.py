"""Which releases a stick must have, so that every machine it may come to finds the newest one that is for it. Pure."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from appliance import __version__, semver
from appliance.errors import NotFound
from appliance.registry.release import Release


def of_line(pattern: str) -> str:
    """The part of LINE or LINE:VERSION that is about lines; it may hold * and ?."""
    return pattern.partition(":")[0]


def is_wanted(line: str, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns means the line; without any, all are wanted."""
    return not patterns or any(fnmatchcase(line, of_line(pattern)) for pattern in patterns)


def choose(releases: Sequence[Release], patterns: Sequence[str], channel: str, now_s: int) -> tuple[Release, ...]:
    """The releases for ``patterns`` (LINE or LINE:VERSION), by line and counter; ``channel`` "": those of all channels.

    Of each line and channel: the newest that is for every machine, and those after it, which are for some. Raises NotFound
    NO_LINE or NO_RELEASE for a pattern that means nothing.
    """
    found: dict[tuple[str, int], Release] = {}
    for pattern in patterns or ("*",):
        line, _, version = pattern.partition(":")
        of_pattern = [r for r in releases if fnmatchcase(r.line, line) and channel in ("", *r.channels)]
        if patterns and not of_pattern:
            raise NotFound(f"nothing of {line} is released{_to(channel)}", reason="NO_LINE")
        if version:
            chosen: Iterable[Release] = [r for r in of_pattern if r.version == version]
            if not chosen:
                raise NotFound(f"{line} {version} is not released{_to(channel)}", reason="NO_RELEASE")
        else:
            chosen = _newest(of_pattern, channel, now_s)
        found.update({(r.line, r.counter): r for r in chosen})
    return tuple(found[key] for key in sorted(found))


def _to(channel: str) -> str:
    return f" to {channel}" if channel else ""


def _newest(releases: Sequence[Release], channel: str, now_s: int) -> Iterable[Release]:
    groups = {(r.line, each) for r in releases for each in ([channel] if channel else r.channels)}
    for line, group in sorted(groups):
        of_group = [r for r in releases if r.line == line and group in r.channels]
        for release in sorted(of_group, key=lambda r: r.counter, reverse=True):
            yield release
            if _is_for_everybody(release, now_s):
                break


def _is_for_everybody(release: Release, now_s: int) -> bool:
    """Software as new as this one is taken for granted: what is older finds no release on the stick that is for it."""
    is_open = not release.waves or any(w.percent >= 100 and w.from_s <= now_s for w in release.waves)
    is_new = semver.sort_key(release.minimum_appliance) > semver.sort_key(__version__)
    return is_open and not is_new and not release.hardware and not release.regions
