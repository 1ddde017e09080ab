"""What should run of a model after an operator's wish. Pure: the old ``Desired`` comes in, the new one comes out."""

from msgspec.structs import replace

from appliance import limits
from appliance.versions import BadVersion, Desired, OnProbation


def activated(
    before: Desired, version: str, keep_previous: bool, probation: OnProbation | None = None, hold: bool = False
) -> Desired:
    """``version`` is the default; the one before is remembered, and stays loaded beside it if it is to be kept.

    With ``probation`` it is compared with the one before, if there is one; ``hold``: which stays loaded for so long.
    A version that was still on probation itself is nothing to come back to: that remains the one before it.
    """
    if not before.active or before.active == version:
        return replace(before, active=version, beside=_without(before.beside, version))
    beside = [*_without(_own_beside(before), version)]
    if keep_previous:
        beside.append(before.active)
    previous = fallback(before, version)
    if probation is not None:
        probation = replace(probation, keep_previous=previous in beside)
        if hold and previous not in beside:
            beside.append(previous)
    return replace(before, active=version, beside=tuple(beside), previous=previous, probation=probation)


def fallback(before: Desired, version: str) -> str:
    """The version that comes back if ``version``, activated now, turns out bad."""
    unproven = before.probation is not None and before.previous not in ("", version)
    return before.previous if unproven else before.active


def beside(before: Desired, version: str) -> Desired:
    """``version`` is loaded too, for requests that name it."""
    if version in (before.active, *before.beside):
        return before
    return replace(before, beside=(*before.beside, version))


def deactivated(before: Desired, versions: list[str]) -> Desired:
    """None of ``versions`` is loaded."""
    if before.active not in versions:
        return replace(before, beside=_without(before.beside, *versions))
    return replace(before, active="", beside=_without(_own_beside(before), *versions), probation=None)


def committed(before: Desired) -> Desired:
    """The probation is over; the previous version is only remembered, unless it is to stay loaded."""
    return replace(before, beside=_own_beside(before), probation=None)


def rolled_back(before: Desired, bad: BadVersion) -> Desired:
    """The previous version is the default again; before it none is known."""
    left = _without(_own_beside(before), before.previous, bad.version)
    return quarantined(replace(before, active=before.previous, beside=left, previous="", probation=None), bad)


def quarantined(before: Desired, bad: BadVersion) -> Desired:
    """``bad`` is remembered; of very many the oldest are forgotten."""
    others = [known for known in before.quarantined if known.version != bad.version]
    return replace(before, quarantined=(*others, bad)[-limits.quarantined_versions_max :])


def lifted(before: Desired, version: str) -> Desired:
    """``version`` may run again."""
    return replace(before, quarantined=tuple(bad for bad in before.quarantined if bad.version != version))


def loaded(desired: Desired) -> tuple[str, ...]:
    """The versions that must be loaded, the default one first."""
    return tuple(v for v in (desired.active, *desired.beside) if v)


def _own_beside(before: Desired) -> tuple[str, ...]:
    """Those loaded beside the default one, without what is loaded for the probation only."""
    if before.probation is None or before.probation.keep_previous:
        return before.beside
    return _without(before.beside, before.previous)


def _without(versions: tuple[str, ...], *gone: str) -> tuple[str, ...]:
    return tuple(v for v in versions if v not in gone)
