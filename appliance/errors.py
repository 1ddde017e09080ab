"""Typed errors: what kind it is (for the status code), why (for a program), and what to do (for a person).

An ApplianceError's message may be shown to any client, so it never holds a path, a stack or the text of an internal
error. Every other exception is a bug or a fault of the machine: it is logged here and shown as INTERNAL there.
"""

from enum import Enum


class Code(str, Enum):
    """The kinds of failure, named as gRPC names them (serve/status.py maps one to the other)."""

    CANCELLED = "CANCELLED"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"


class ApplianceError(Exception):
    """A failure with a code, a machine-readable reason and a message fit for whoever caused it.

    ``reason`` is SCREAMING_SNAKE and stable: scripts and logs match on it, messages may be reworded.
    """

    code: Code = Code.INTERNAL
    default_reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason


class InvalidArgument(ApplianceError):
    """The request can never succeed as it is: the caller must change it."""

    code = Code.INVALID_ARGUMENT
    default_reason = "INVALID_ARGUMENT"


class NotFound(ApplianceError):
    """The model, version or other thing asked for does not exist here."""

    code = Code.NOT_FOUND
    default_reason = "NOT_FOUND"


class AlreadyExists(ApplianceError):
    """What was to be made is there already, with other content."""

    code = Code.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"


class PermissionDenied(ApplianceError):
    """The caller may not do this."""

    code = Code.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class Unavailable(ApplianceError):
    """Not now; the same request may succeed soon."""

    code = Code.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class ResourceExhausted(ApplianceError):
    """A bound was met (queue, memory, disk): wait, or ask for less."""

    code = Code.RESOURCE_EXHAUSTED
    default_reason = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(ApplianceError):
    """The caller's deadline passed before the answer was there."""

    code = Code.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"


class Cancelled(ApplianceError):
    """The caller went away or the daemon is stopping."""

    code = Code.CANCELLED
    default_reason = "CANCELLED"


class FailedPrecondition(ApplianceError):
    """The system is not in the state that the request needs; an operator must change something first."""

    code = Code.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"


class Unimplemented(ApplianceError):
    """This model or daemon does not do this at all."""

    code = Code.UNIMPLEMENTED
    default_reason = "UNIMPLEMENTED"


class InternalError(ApplianceError):
    """A fault on our side; the log has the details, the caller gets none."""

    code = Code.INTERNAL
    default_reason = "INTERNAL"


_BY_CODE: dict[Code, type[ApplianceError]] = {
    cls.code: cls
    for cls in (
        InvalidArgument,
        NotFound,
        AlreadyExists,
        PermissionDenied,
        Unavailable,
        ResourceExhausted,
        DeadlineExceeded,
        Cancelled,
        FailedPrecondition,
        Unimplemented,
        InternalError,
    )
}


def from_code(code: str, reason: str, message: str) -> ApplianceError:
    """Rebuilds the error that another process sent as (code, reason, message)."""
    return _BY_CODE[Code(code)](message, reason=reason)
