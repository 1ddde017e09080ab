"""What a stick has of a prefix already: it must never go back, nor pass from one publisher to another."""

import msgspec

from appliance import limits
from appliance.errors import AlreadyExists
from appliance.registry.bundle.metadata import TIMESTAMP
from appliance.registry.release import ROLE_PREFIX
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Absent, Malformed
from appliance.registry.trust import carried, files

_FIRST_ROOT = "1.root.json"


class _Version(msgspec.Struct, frozen=True):
    version: int


class _Timestamp(msgspec.Struct, frozen=True):
    signed: _Version


_decoder = msgspec.json.Decoder(_Timestamp)


def check(source: Source, stick: Source, prefix: str) -> None:
    """Raises AlreadyExists: STICK_NEWER where the registry has an older timestamp, STICK_OTHER for another publisher's.

    What can't be read on the stick is replaced. Raises Absent where the registry has no metadata below ``prefix``.
    """
    repository = carried.repository_of(prefix)
    theirs = _file(source, repository, _FIRST_ROOT), _version(source, repository)
    try:
        ours = _file(stick, repository, _FIRST_ROOT), _version(stick, repository)
    except (Absent, Malformed):
        return
    if ours[0] != theirs[0]:
        raise AlreadyExists(
            f"{stick.name} holds another publisher's releases below {prefix or 'the top'}: take another folder",
            reason="STICK_OTHER",
        )
    if ours[1] > theirs[1]:
        raise AlreadyExists(
            f"{stick.name} has the timestamp {ours[1]} of {prefix or 'the top'}, {source.name} only {theirs[1]}: machines "
            "refuse to go back, so export from where the newest is",
            reason="STICK_NEWER",
        )


def lines(stick: Source, prefix: str) -> frozenset[str]:
    """The lines whose metadata the stick has."""
    found = (tag.partition(".")[2] for tag in stick.tags(carried.repository_of(prefix)))
    return frozenset(
        name.removeprefix(ROLE_PREFIX).removesuffix(".json") for name in found if name.startswith(ROLE_PREFIX)
    )


def first_root(source: Source, prefix: str) -> bytes:
    """The root that a registry itself calls its first: nobody vouches for it but the registry. Raises Absent, Malformed."""
    return _file(source, carried.repository_of(prefix), _FIRST_ROOT)


def _file(source: Source, repository: str, name: str) -> bytes:
    return files.read(source, repository, name, limits.tuf_root_bytes_max)


def _version(source: Source, repository: str) -> int:
    data = files.read(source, repository, TIMESTAMP, limits.tuf_timestamp_bytes_max)
    try:
        return _decoder.decode(data).signed.version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{TIMESTAMP} of {source.name} cannot be read: {error}") from None
