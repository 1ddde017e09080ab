"""What should run of a model after an operator's wish. Pure: the old ``Desired`` comes in, the new one comes out."""

from appliance.questions import Desired


def activated(before: Desired, version: str, keep_previous: bool) -> Desired:
    """``version`` is the default; the one before is remembered, and stays loaded beside it if it is to be kept."""
    beside = [v for v in before.beside if v != version]
    if not before.active or before.active == version:
        return Desired(before.name, version, tuple(beside), before.previous)
    if keep_previous:
        beside.append(before.active)
    return Desired(before.name, version, tuple(beside), before.active)


def beside(before: Desired, version: str) -> Desired:
    """``version`` is loaded too, for requests that name it."""
    if version in (before.active, *before.beside):
        return before
    return Desired(before.name, before.active, (*before.beside, version), before.previous)


def deactivated(before: Desired, versions: list[str]) -> Desired:
    """None of ``versions`` is loaded."""
    left = tuple(v for v in before.beside if v not in versions)
    active = "" if before.active in versions else before.active
    return Desired(before.name, active, left, before.previous)


def loaded(desired: Desired) -> tuple[str, ...]:
    """The versions that must be loaded, the default one first."""
    return tuple(v for v in (desired.active, *desired.beside) if v)
