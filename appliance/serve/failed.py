"""Failed calls in the log: who asked which model, and why it failed. Never what was asked, nor the error's words.

An error's message may quote the request; whoever sent that has the message. The log has the reason, and names and ids
that are cut and escaped (logs/plain.py).
"""

import logging
from typing import Any, NamedTuple, Protocol

from appliance import events, limits
from appliance.errors import ApplianceError, Code
from appliance.logs.plain import one_line
from appliance.serve import client_name

_log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """What a request says of itself; "" for what it doesn't."""

    model: str = ""
    version: str = ""
    request_id: str = ""


class Peer(Protocol):
    """As much of a call's context as says who asks."""

    def peer(self) -> str:
        """The client's address as gRPC writes it."""
        ...

    def auth_context(self) -> Any:
        """What TLS knows of the client."""
        ...


NOTHING = Asked()


def asked_of(request: Any) -> Asked:
    """Of any request of ours, parsed or not; each service names a model by words of its own."""
    message = getattr(request, "message", None)
    request = request if message is None or isinstance(message, str) else message  # convert.LargeRequest
    return Asked(
        _text(request, "model_name") or _text(request, "model") or _text(request, "name"),
        _text(request, "model_version") or _text(request, "version"),
        _text(request, "id"),
    )


def note(error: ApplianceError, peer: Peer | None, asked: Asked) -> None:
    """One line for one failed call. A client that has given up, and what follows from it, is no failure."""
    if error.code is Code.CANCELLED:
        return
    level = logging.WARNING if error.code is Code.INTERNAL else logging.INFO
    if _log.isEnabledFor(level):
        facts = facts_of(peer, asked, error.reason)
        _log.log(level, "%s failed: %s (%s)", call_of(asked), error.code.value, error.reason, extra=facts)


def facts_of(peer: Peer | None, asked: Asked, reason: str) -> dict[str, Any]:
    """The fields of a failed call, for a log call's ``extra``."""
    return events.CALL_FAILED.of(
        model=asked.model,
        version=asked.version,
        request_id=asked.request_id,
        client=_client(peer),
        error_reason=reason,
    )


def call_of(asked: Asked) -> str:
    """``a call of pair:1.0.0``; its parts are cut."""
    if not asked.model:
        return "a call"
    name = one_line(asked.model, limits.model_name_chars_max)
    version = one_line(asked.version, limits.version_chars_max)
    return f"a call of {name}:{version}" if version else f"a call of {name}"


def _client(peer: Peer | None) -> str:
    try:
        return client_name.of_call(peer) if peer is not None else ""  # type: ignore[arg-type]  # as much as it uses
    except Exception:  # a call that has ended under us, say: its failure is still worth a line
        return ""


def _text(request: Any, field: str) -> str:
    value = getattr(request, field, "")
    return value if isinstance(value, str) else ""
