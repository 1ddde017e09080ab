"""What a refusal of python-tuf's client means: expired, or not to be trusted, and which file is to blame."""

from pathlib import Path

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata

from appliance import limits
from appliance.registry.trust.clock import as_datetime
from appliance.registry.trust.failures import Expired, Untrusted
from appliance.registry.trust.fetcher import RegistryFetcher
from appliance.registry.trust.kept import read_bounded
from appliance.registry.trust.verified import TOP_FILES, RoleState

# What python-tuf's errors mean, in words for a person; the first that fits.
_MEANINGS: tuple[tuple[type[Exception], str], ...] = (
    (BadVersionNumberError, "is older than what was verified before, or of another version than the list names"),
    (UnsignedMetadataError, "is not signed by enough of its role's keys"),
    (LengthOrHashMismatchError, "is another file than the signed list names"),
    (DownloadHTTPError, "is missing, although the signed list names it"),
    (DownloadError, "is larger than it may be"),
)


def failure(error: Exception, fetcher: RegistryFetcher, cache: Path, now_s: int) -> Expired | Untrusted:
    """A RepositoryError or DownloadError of a refresh as one of ours."""
    if isinstance(error, ExpiredMetadataError):
        role = _expired_role(fetcher, cache, now_s)
        return Expired(
            f"the metadata of {role.name} (version {role.version}) are expired since "
            f"{as_datetime(role.expires_s):%Y-%m-%d %H:%M} UTC; it is {as_datetime(now_s):%Y-%m-%d %H:%M} UTC here: "
            "nothing new is installed until the publisher refreshes them, or this machine's clock is set right (see appliance registry clock)",
            role=role.name,
            expired_s=role.expires_s,
        )
    meaning = next((text for kind, text in _MEANINGS if isinstance(error, kind)), "cannot be read")
    asked = fetcher.asked or "the root of trust"
    return Untrusted(f"{asked} from {fetcher.source_name} {meaning}: {str(error)[:200]}")


def _expired_role(fetcher: RegistryFetcher, cache: Path, now_s: int) -> RoleState:
    """Which metadata have made the client say "expired".

    The root is judged before the timestamp's signature is looked at. After that, what came last was verified before it was
    found to be expired; and where nothing came, it is something in the cache.
    """
    cached = [(name, data) for name in TOP_FILES if (data := _cached(cache / name))]
    recent = [(fetcher.recent.name, fetcher.recent.data)] if fetcher.recent is not None else []
    for name, data in (*cached[:1], *recent, *cached):
        try:
            signed = Metadata.from_bytes(data).signed
        except RepositoryError:
            continue
        if signed.is_expired(as_datetime(now_s)):
            role = name.removesuffix(".json").removeprefix(f"{signed.version}.")
            return RoleState(role, signed.version, int(signed.expires.timestamp()))
    return RoleState("metadata", 0, now_s)


def _cached(path: Path) -> bytes:
    try:
        return read_bounded(path, limits.tuf_file_bytes_max)
    except OSError:
        return b""
