"""Why a candidate can't be compared, and what to do about it."""

from appliance.comparison import Comparison
from appliance.errors import FailedPrecondition, NotFound, ResourceExhausted


def running(name: str, version: str) -> FailedPrecondition:
    """One at a time."""
    return FailedPrecondition(
        f"version '{version}' of model '{name}' is being compared: end that first, by `appliance models abandon {name}`"
        f" or `appliance models promote {name}`",
        reason="COMPARISON_RUNNING",
    )


def needed(name: str, version: str) -> FailedPrecondition:
    """A version that is being compared must not leave the store."""
    return FailedPrecondition(
        f"model '{name}' version '{version}' is being compared: `appliance models abandon {name}` first",
        reason="COMPARISON_RUNNING",
    )


def none_running(name: str) -> FailedPrecondition:
    """There is nothing to end."""
    return FailedPrecondition(
        f"no version of model '{name}' is being compared: begin by `appliance models canary {name} VERSION`",
        reason="NO_COMPARISON",
    )


def never(name: str) -> NotFound:
    """There is nothing to show."""
    return NotFound(
        f"no version of model '{name}' was compared yet: `appliance models canary {name} VERSION`, or shadow",
        reason="NO_COMPARISON",
    )


def nothing_to_compare(name: str, version: str, active: str) -> FailedPrecondition:
    """It takes two."""
    if active:
        text = f"model '{name}' version '{version}' is the active one: name another to compare with it"
        return FailedPrecondition(text, reason="IS_ACTIVE")
    return FailedPrecondition(
        f"no version of model '{name}' is active: there is nothing to compare '{version}' with; activate one",
        reason="NOT_ACTIVE",
    )


def no_room(name: str, version: str, active: str) -> ResourceExhausted:
    """Both don't fit into memory."""
    return ResourceExhausted(
        f"memory is too short for version '{version}' of model '{name}' beside '{active}': unload another model, or"
        f" activate it with --probation instead",
        reason="NO_ROOM_BESIDE",
    )


def worse(record: Comparison) -> FailedPrecondition:
    """An update whose comparison did not end well."""
    how = {"condemned": "is worse than", "interrupted": "was not compared to the end with"}
    words = how.get(record.outcome.value, "did not take over from")
    return FailedPrecondition(
        f"model '{record.name}' version '{record.version}' {words} '{record.active}': {record.reason}",
        reason="CANDIDATE_WORSE" if record.outcome.value == "condemned" else "COMPARISON_ENDED",
    )
