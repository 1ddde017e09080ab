"""Semantic versions (semver.org 2.0.0): which text is one, and which of two is newer."""

import re

from appliance import limits

# The grammar of semver.org, "Backus-Naur Form Grammar for Valid SemVer Versions", without build metadata.
_NUMBER = r"(?:0|[1-9][0-9]*)"
_IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?")

SortKey = tuple[int, int, int, bool, tuple[tuple[int, int, str], ...]]


def check(version: str) -> None:
    """Raises ValueError, with a sentence that says what is wrong, when ``version`` can't be a model's version."""
    if "+" in version:
        base, _, metadata = version.partition("+")
        raise ValueError(
            f"{version!r} has build metadata (+{metadata}), which a tag in an OCI registry cannot hold: "
            f"make it part of the pre-release ({base}-{metadata}) or leave it out"
        )
    if len(version) > limits.version_chars_max:
        raise ValueError(f"{len(version)} characters, at most {limits.version_chars_max} are allowed")
    if not _VERSION.fullmatch(version):
        raise ValueError(
            f"{version!r} is not a semantic version: MAJOR.MINOR.PATCH, whole numbers without leading zeros, and "
            "maybe -PRERELEASE, as in 1.4.0 or 2.0.0-rc.1"
        )


def sort_key(version: str) -> SortKey:
    """Sorts as semver.org's clause 11 orders: ``max(versions, key=sort_key)`` is the newest. Raises ValueError."""
    check(version)
    match = _VERSION.fullmatch(version)
    assert match is not None  # check() has just matched it
    major, minor, patch, prerelease = match.groups()
    identifiers = prerelease.split(".") if prerelease else []
    # Numbers before words, a release after all of its pre-releases, a longer list after its own beginning.
    ranked = tuple((0, int(i), "") if i.isdigit() else (1, 0, i) for i in identifiers)
    return int(major), int(minor), int(patch), not identifiers, ranked
