"""From typed errors to gRPC statuses: the one table, and the two ways in which a call can fail."""

import logging
import uuid
from typing import NoReturn

import grpc

from appliance import limits
from appliance.errors import ApplianceError, Code
from appliance.logs.plain import one_line
from appliance.serve import failed
from appliance.serve.failed import NOTHING, Asked, Peer

_log = logging.getLogger(__name__)

STATUS: dict[Code, grpc.StatusCode] = {
    Code.CANCELLED: grpc.StatusCode.CANCELLED,
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Code.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Code.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
    Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}

# The trailer that carries ApplianceError.reason, for programs.
REASON_KEY = "appliance-reason"


def shorten(text: str) -> str:
    """``text`` within what a status message may hold."""
    bound = limits.status_message_chars_max
    return text if len(text) <= bound else text[: bound - 3] + "..."


def fail(context: grpc.ServicerContext, error: ApplianceError, asked: Asked = NOTHING) -> NoReturn:
    """Ends the call with the error's status, message and reason, and notes that in the log."""
    failed.note(error, context, asked)
    context.set_trailing_metadata(((REASON_KEY, error.reason),))
    context.abort(STATUS[error.code], shorten(error.message))


def internal_message(peer: Peer | None = None, asked: Asked = NOTHING) -> str:
    """Logs the exception that is being handled, with its traceback, and returns what the client may know of it.

    The log names the request by the same id as the message: the client's own, or else one that is made now.
    """
    request = asked.request_id or uuid.uuid4().hex[:12]
    facts = failed.facts_of(peer, asked._replace(request_id=request), "INTERNAL")
    shown = one_line(request, limits.quoted_chars_max)
    _log.exception("%s failed inside the daemon, request %s", failed.call_of(asked), shown, extra=facts)
    return f"internal error; see the daemon's log, request id {shown}"


def fail_internal(context: grpc.ServicerContext, asked: Asked = NOTHING) -> NoReturn:
    """Ends the call after an exception that nobody foresaw."""
    message = internal_message(context, asked)
    context.set_trailing_metadata(((REASON_KEY, "INTERNAL"),))
    context.abort(grpc.StatusCode.INTERNAL, message)
