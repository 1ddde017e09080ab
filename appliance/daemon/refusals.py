"""What is said of a version whose engine was not started, or not activated."""

from appliance.errors import ApplianceError, FailedPrecondition, from_code
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
