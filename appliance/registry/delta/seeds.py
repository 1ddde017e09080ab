"""Local blobs that may share chunks with a wanted one. What they are made of is remembered on disk, since reading them takes long.

<cache>/<hex>.<bits>.chunks     an index (index.py) of one blob, cut into chunks of 2^bits bytes

Neither a seed nor the cache is trusted: whatever is taken out of a seed is hashed again.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from appliance import events, limits
from appliance.osutil import durable
from appliance.registry.delta import chunking, index
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Entry
from appliance.store.manifest import is_hex

_log = logging.getLogger(__name__)

# Called between two chunks, for a heart-beat; may raise.
Beat = Callable[[], None]
_SUFFIX = ".chunks"
# Blobs that are pulled at the same time have the same seeds: one reads them, the others find the cache.
_reading = threading.Lock()


class Seed(NamedTuple):
    """A local blob: its sha256 in hexadecimal, its file, its size. Not ``is_whole``: so far; never remembered."""

    hex: str
    path: Path
    size: int
    is_whole: bool = True


class Seeds:
    """Seeds in the order in which they are tried: the most similar first. Threads may share it."""

    def __init__(self, cache: Path, seeds: Sequence[Seed]) -> None:
        self._cache = cache
        self._seeds = tuple(seeds)

    def entries(self, wanted: Entry, beat: Beat) -> Iterator[tuple[int, Entry]]:
        """What the chosen seeds are made of, cut as ``wanted`` is; those that can't be read are left out."""
        for number in choose(self._seeds, wanted):
            seed = self._seeds[number]
            try:
                with _reading:
                    entry = self._cached(seed, wanted.bits) or self._read(seed, wanted.bits, beat)
            except (OSError, DeltaFailed) as error:
                _log.info("the blob %s is not used as a seed: %s", seed.hex, error)
                continue
            yield number, entry

    def read(self, number: int, offset: int, length: int) -> bytes:
        """A part of a seed, unverified. Raises DeltaFailed SEED."""
        seed = self._seeds[number]
        try:
            fd = _open(seed)
            try:
                data = os.pread(fd, length, offset)
            finally:
                os.close(fd)
        except OSError as error:
            raise DeltaFailed("SEED", f"the seed {seed.hex} cannot be read: {error.strerror}") from error
        return data

    def forget(self, number: int) -> None:
        """Seed or cache has lied: the next plan reads the seed again."""
        for bits in range(chunking.BITS_MIN, chunking.BITS_MAX + 1):
            with contextlib.suppress(OSError):
                self._path(self._seeds[number], bits).unlink()

    def _path(self, seed: Seed, bits: int) -> Path:
        return self._cache / f"{seed.hex}.{bits}{_SUFFIX}"

    def _cached(self, seed: Seed, bits: int) -> Entry | None:
        if not seed.is_whole:
            return None
        try:
            fd = os.open(self._path(seed, bits), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            with open(fd, "rb") as file:
                found = index.parse(file.read(limits.delta_index_bytes_max + 1)).entries.get(f"sha256:{seed.hex}")
        except (OSError, DeltaFailed) as error:
            _log.info("the chunks of %s are computed anew: %s", seed.hex, error)
            return None
        return found if found is not None and (found.size, found.bits) == (seed.size, bits) else None

    def _read(self, seed: Seed, bits: int, beat: Beat) -> Entry:
        def beating(chunks: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
            for chunk in chunks:
                beat()
                yield chunk

        with open(_open(seed), "rb", buffering=0) as file:
            chunks = beating(chunking.cut(file, bits))
            entry = index.entry(bytes.fromhex(seed.hex), seed.size, bits, chunks)
        if not seed.is_whole:
            return entry
        try:
            durable.mkdir(self._cache)
            durable.write(self._path(seed, bits), index.encode([entry]), mode=0o600, point="delta.cache")
        except OSError as error:  # a full disk costs the cache and not the delta
            _log.warning(
                "the chunks of %s cannot be remembered: %s", seed.hex, error, extra=events.ENGINE_NO_CACHE.of()
            )
        return entry


def choose(seeds: Sequence[Seed], wanted: Entry) -> list[int]:
    """The numbers of those that are worth a look, within the bounds on their number and on the bytes that are read."""
    chosen: list[int] = []
    left = wanted.size * limits.delta_seed_bytes_ratio_max
    for number, seed in enumerate(seeds):
        if chunking.fits(seed.size, wanted.bits) and seed.size <= left and len(chosen) < limits.delta_seeds_max:
            chosen.append(number)
            left -= seed.size
    return chosen


def tidy(cache: Path, blobs: Collection[str]) -> None:
    """Removes what is remembered of other blobs than these (sha256 in hexadecimal). Raises OSError."""
    if not cache.is_dir():
        return
    for path in cache.iterdir():
        name = path.name.partition(".")[0]
        if durable.is_temp(path.name) or (path.name.endswith(_SUFFIX) and is_hex(name) and name not in blobs):
            path.unlink(missing_ok=True)


def _open(seed: Seed) -> int:
    """Raises OSError, also for what is no file of the right size: a fifo would wait for a writer."""
    fd = os.open(seed.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    size = os.fstat(fd).st_size
    if size != seed.size:
        os.close(fd)
        raise OSError(0, f"it has {size} bytes, not {seed.size}")
    return fd
