"""The last complete set of verified metadata, in one file, so that a kill or a half-finished refresh never tears it.

The client's own cache is a file a role: between two of them it names a snapshot that isn't there yet.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from appliance import events, limits
from appliance.osutil import bounded, durable
from appliance.registry.trust.failures import Untrusted
from appliance.registry.trust.verified import TOP_FILES, Verified, read
from appliance.store.aside import keep_aside
from appliance.store.manifest import digest_of

_log = logging.getLogger(__name__)

FORMAT = 1


class _File(msgspec.Struct, frozen=True):
    format: int
    files: dict[str, str]


class Kept(msgspec.Struct, frozen=True):
    """The files by name, and what they say."""

    files: dict[str, bytes]
    verified: Verified


class KeptSet:
    """The file ``kept`` in ``folder``; ``cache`` is the client's folder, which may do where the file has decayed."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._path = folder / "kept"
        self._cache = cache
        self._kept: Kept | None = self._load()

    def get(self) -> Kept | None:
        """None before the first complete refresh."""
        return self._kept

    def keep(self, files: dict[str, bytes]) -> None:
        """Makes this the last set; durable when it returns. Raises Untrusted, OSError."""
        if self._kept is not None and self._kept.files == files and self._path.exists():
            return
        kept = Kept(files, read(files, older_lines=True))
        encoded = msgspec.json.encode(_File(FORMAT, {name: data.decode() for name, data in files.items()}))
        # Signatures say that a file is genuine; this says that none has decayed, before any is left out for it.
        durable.write(self._path, digest_of(encoded).encode() + b"\n" + encoded, point="trust.kept")
        self._kept = kept

    def _load(self) -> Kept | None:
        try:
            data = bounded.read(self._path, 2 * limits.tuf_set_bytes_max)
        except FileNotFoundError:
            return self._from_cache()
        except OSError as error:
            _log.warning("%s cannot be read: %s", self._path, error, extra=events.TRUST_SET_ASIDE.of())
            return self._from_cache()
        try:
            digest, _, encoded = data.partition(b"\n")
            if digest != digest_of(encoded).encode():
                raise Untrusted("another digest")
            parsed = msgspec.json.decode(encoded, type=_File)
            if parsed.format != FORMAT:
                raise Untrusted(f"format {parsed.format} instead of {FORMAT}")
            return _kept({name: text.encode() for name, text in parsed.files.items()})
        except (msgspec.MsgspecError, UnicodeError, Untrusted) as error:
            _log.warning(
                "the kept metadata are corrupt (%s) and set aside: the next refresh replaces them",
                error,
                extra=events.TRUST_SET_ASIDE.of(),
            )
            try:
                keep_aside(self._path)
            except OSError as problem:
                _log.warning("%s could not be set aside: %s", self._path, problem, extra=events.TRUST_NOT_KEPT.of())
            return self._from_cache()

    def _from_cache(self) -> Kept | None:
        try:
            files = read_cache(self._cache, TOP_FILES)
            lines = read(files).lines
            names = [f"models.{line}.json" for line in lines]
            return _kept({**files, **read_cache(self._cache, [n for n in names if (self._cache / n).exists()])})
        except (OSError, Untrusted):
            return None


def _kept(files: dict[str, bytes]) -> Kept:
    return Kept(files, read(files, older_lines=True))


def read_cache(folder: Path, names: tuple[str, ...] | list[str]) -> dict[str, bytes]:
    """Files of the client's folder. Raises OSError."""
    return {name: bounded.read(folder / name, limits.tuf_file_bytes_max) for name in names}


def total_bytes(files: Mapping[str, bytes]) -> int:
    """What a set takes."""
    return sum(map(len, files.values()))
