"""Why the box takes no new release: what is expired, what is not to be trusted, and that no root is installed."""

from appliance.errors import FailedPrecondition


class NoRoot(FailedPrecondition):
    """Nobody has said yet whose signatures count here."""

    default_reason = "NO_ROOT"


class BadRoot(FailedPrecondition):
    """Bytes that cannot be, or must not silently become, the root of trust."""

    default_reason = "BAD_ROOT"


class Expired(FailedPrecondition):
    """Metadata that are too old to say what is current: nothing new is installed, what runs goes on.

    ``role`` is "timestamp" or "models.LINE", ``expired_s`` the Unix time since when.
    """

    default_reason = "METADATA_EXPIRED"

    def __init__(self, message: str, *, role: str, expired_s: int) -> None:
        super().__init__(message)
        self.role = role
        self.expired_s = expired_s


class Untrusted(FailedPrecondition):
    """Metadata or a manifest that the signatures don't cover: an attack, or a publisher's mistake. Nothing is taken."""

    default_reason = "METADATA_UNTRUSTED"
