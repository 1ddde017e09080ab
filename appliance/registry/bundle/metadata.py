"""Which TUF files belong together: all roots, and what one timestamp names.

Nothing is verified here; whoever reads a bundle verifies it as it would a registry. What is read is bounded, and a file
is named by nothing but numbers and role names that can be tags.
"""

from collections.abc import Collection, Iterator

import msgspec

from appliance import limits
from appliance.registry.release import role_of
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Absent, Malformed
from appliance.registry.trust import carried, files

TIMESTAMP = "timestamp.json"


class File(msgspec.Struct, frozen=True):
    """A TUF file as it came."""

    name: str
    data: bytes


class _Version(msgspec.Struct, frozen=True):
    version: int


class _Signed(msgspec.Struct, frozen=True):
    meta: dict[str, _Version]


class _Metadata(msgspec.Struct, frozen=True):
    signed: _Signed


_decoder = msgspec.json.Decoder(_Metadata)


def current(source: Source, prefix: str, lines: Collection[str]) -> Iterator[File]:
    """The files of ``lines``, in the order in which a target may have them: the timestamp, which names the rest, last.

    Raises Absent where there is no timestamp, Malformed for files that cannot be read, and what the source raises.
    """
    repository = carried.repository_of(prefix)
    timestamp = files.read(source, repository, TIMESTAMP, limits.tuf_timestamp_bytes_max)
    yield from _roots(source, repository)
    snapshot_name = _versioned("snapshot.json", _meta(TIMESTAMP, timestamp))
    snapshot = files.read(source, repository, snapshot_name, limits.tuf_snapshot_bytes_max)
    named = _meta(snapshot_name, snapshot)
    for role in ("targets", *map(role_of, sorted(lines))):
        name = _versioned(f"{role}.json", named)
        yield File(name, files.read(source, repository, name))
    yield File(snapshot_name, snapshot)
    yield File(TIMESTAMP, timestamp)


def _roots(source: Source, repository: str) -> Iterator[File]:
    """All of them, so that a box that was never told of a rotation can follow it. They end with the first gap."""
    for number in range(1, limits.tuf_root_rotations_max + 2):
        name = f"{number}.root.json"
        try:
            yield File(name, files.read(source, repository, name, limits.tuf_root_bytes_max))
        except Absent:
            if number == 1:
                raise
            return
    raise Malformed(f"{source.name} has more than {limits.tuf_root_rotations_max} roots")


def _meta(name: str, data: bytes) -> dict[str, _Version]:
    try:
        return _decoder.decode(data).signed.meta
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"{name} cannot be read: {error}") from None


def _versioned(name: str, meta: dict[str, _Version]) -> str:
    found = meta.get(name)
    if found is None or found.version < 1:
        raise Absent(f"the metadata name no {name}: is the line published there?")
    versioned = f"{found.version}.{name}"
    if not carried.is_file_name(versioned):
        raise Malformed(f"{versioned[:200]!r} cannot be the name of a TUF file")
    return versioned
