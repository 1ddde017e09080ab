"""What is said of a version whose engine was not started, that was not activated, or that there is no way back to."""

from appliance.errors import ApplianceError, FailedPrecondition, from_code
from appliance.versions import BadVersion
from appliance.worker.engine_group import EngineGroup


def not_activated(group: EngineGroup) -> ApplianceError:
    """Why a version was not activated: the engine's own error, or that it did not live to tell one."""
    model = group.model
    text = f"model '{model.name}' version '{model.version}' was not activated: {group.reason or 'its engine ended'}"
    if group.refusal is None:
        return FailedPrecondition(text, reason="MODEL_REFUSED")
    return from_code(group.refusal.code, group.refusal.reason, text)


def not_started(error: OSError) -> str:
    """Why an engine could not even be started."""
    return f"its engine could not be started: {error.strerror or error}"


def quarantined(name: str, bad: BadVersion) -> FailedPrecondition:
    """The version has shown that it is bad, and how to run it all the same."""
    return FailedPrecondition(
        f"model '{name}' version '{bad.version}' is quarantined: {bad.reason}. To run it all the same:"
        f" appliance models activate {name} {bad.version} --force",
        reason="VERSION_QUARANTINED",
    )


def needed_for_probation(name: str, version: str, active: str) -> FailedPrecondition:
    """The version must not go: the one that is on probation may be worse."""
    return FailedPrecondition(
        f"model '{name}' version '{version}' comes back if version '{active}', which is on probation, is worse:"
        " remove it when that has ended",
        reason="NEEDED_FOR_PROBATION",
    )


def nothing_before(name: str, active: str) -> FailedPrecondition:
    """There is no version to go back to."""
    if not active:
        text = f"no version of model '{name}' is active, so there is nothing to roll back: activate one"
        return FailedPrecondition(text, reason="NOT_ACTIVE")
    return FailedPrecondition(
        f"nothing was active before version '{active}' of model '{name}': there is no version to go back to",
        reason="NO_PREVIOUS",
    )


def previous_gone(name: str, version: str) -> FailedPrecondition:
    """The version to go back to was removed."""
    return FailedPrecondition(
        f"version '{version}' of model '{name}', which was active before, is not stored any more: add it again, or"
        f" activate another one",
        reason="PREVIOUS_GONE",
    )


def previous_not_allowed(name: str, version: str) -> FailedPrecondition:
    """The version to go back to must not run any more."""
    return FailedPrecondition(
        f"version '{version}' of model '{name}', which was active before, is not allowed to run any more: it was"
        f" withdrawn",
        reason="PREVIOUS_NOT_ALLOWED",
    )
