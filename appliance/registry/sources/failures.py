"""How a source fails: whether it helps to try again, and whose turn it is to do something."""

from appliance.errors import FailedPrecondition, NotFound, PermissionDenied, Unavailable


class Unreachable(Unavailable):
    """Not now: no connection, a stall, an answer cut short, a busy server. Another try, or another mirror, may do.

    ``retry_after_s``: before that the server wants no other try.
    """

    default_reason = "REGISTRY_UNREACHABLE"

    def __init__(self, message: str, *, reason: str | None = None, retry_after_s: float = 0.0) -> None:
        super().__init__(message, reason=reason)
        self.retry_after_s = retry_after_s


class Refused(PermissionDenied):
    """The server knows us and says no, or doesn't know us: credentials, certificates, policy."""

    default_reason = "REGISTRY_REFUSED"


class Absent(NotFound):
    """There is no such repository, tag or blob."""

    default_reason = "REGISTRY_ABSENT"


class Malformed(FailedPrecondition):
    """What came is not what it must be: too large, another digest, no manifest. The same source will send it again."""

    default_reason = "REGISTRY_MALFORMED"
