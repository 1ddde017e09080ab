"""A wanted blob out of local seeds and ranged reads, chunk by chunk from its start, into a partial file.

The file always is a beginning of the blob whose chunks were verified, so that a kill costs nothing but reading it again,
and the whole download can go on behind it when the delta is given up.
"""

import logging
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from appliance.errors import Cancelled
from appliance.osutil import durable
from appliance.osutil.faults import fault_point
from appliance.registry.delta import planner
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Chunk, Entry
from appliance.registry.delta.planner import ITSELF, SOURCE, Place, Plan
from appliance.registry.delta.ranges import RangeReader
from appliance.registry.delta.seeds import Seeds
from appliance.registry.pull.download import open_partial
from appliance.registry.sources.base import Source
from appliance.store import manifest
from appliance.store.blobs import Tick, no_tick

_log = logging.getLogger(__name__)
_MIB = 1024 * 1024
_SYNC_BYTES = 64 * _MIB


class Saved(NamedTuple):
    """What a delta did. Bytes of the blob; of these fetched; of these already there from an earlier run."""

    size: int
    fetched: int
    there: int
    requests: int
    seeds: int

    def __str__(self) -> str:
        there = f", {self.there / _MIB:.1f} MiB were there already" if self.there else ""
        return (
            f"fetched {self.fetched / _MIB:.1f} MiB of {self.size / _MIB:.1f} MiB in {self.requests} requests, "
            f"the rest from {self.seeds} local blobs{there}"
        )


def never() -> bool:
    """For callers that don't cancel."""
    return False


def rebuild(
    source: Source,
    repository: str,
    wanted: Entry,
    seeds: Seeds,
    target_path: Path,
    *,
    progress: Tick = no_tick,
    cancelled: Callable[[], bool] = never,
    pace: Tick = no_tick,
) -> Saved:
    """The file ``target_path`` is the whole blob, verified and synced, when this returns.

    ``progress``: called with bytes that are in place now (0: still alive), negative where they are thrown away.
    ``pace``: called with bytes that came over the network, and waits.
    Raises DeltaFailed: fetch the whole, which may go on behind what the file has. Raises Unreachable: the same call goes on
    later. Raises Cancelled, OSError of the disk.
    """
    durable.mkdir(target_path.parent)
    fd = open_partial(target_path)  # never one that has become a blob, which engines may have open
    try:
        saved = _Rebuild(wanted, seeds, fd, progress, cancelled).run(source, repository, pace)
    except DeltaFailed as error:
        _log.info("%s is fetched whole (%s): %s", wanted.digest, error.reason, error.message)
        raise
    finally:
        os.close(fd)
    durable.sync_folder(target_path.parent)
    _log.info("%s: %s", wanted.digest, saved)
    return saved


class _Rebuild:
    """One run."""

    def __init__(
        self,
        wanted: Entry,
        seeds: Seeds,
        fd: int,
        progress: Callable[[int], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self._wanted = wanted
        self._seeds = seeds
        self._fd = fd
        self._progress = progress
        self._cancelled = cancelled
        self._whole = manifest.new_sha256()
        self._done = 0
        self._unsynced = 0

    def run(self, source: Source, repository: str, pace: Callable[[int], None]) -> Saved:
        """As ``rebuild``."""
        there = self._read_again()
        done_before = self._done
        plan = planner.plan(self._wanted, self._seeds.entries(self._wanted, self._beat), there)
        if plan.objection:
            raise DeltaFailed("NOT_WORTH", plan.objection)
        reader = RangeReader(source, repository, self._wanted, plan.ranges, pace, self._beat)
        try:
            self._write(plan, reader)
        finally:
            reader.close()
        if self._whole.digest() != self._wanted.sha256:
            # Every chunk was what the index says: the index lies, and nothing of it is worth keeping.
            self._throw_away()
            raise DeltaFailed(
                "BAD_INDEX", f"all chunks of {self._wanted.digest} are right, and together they are not it"
            )
        fault_point("delta.sync")
        os.fsync(self._fd)
        return Saved(self._wanted.size, reader.fetched, done_before, reader.requests, len(plan.used))

    def _beat(self) -> None:
        if self._cancelled():
            raise Cancelled("the download was stopped; it goes on where it was")
        self._progress(0)

    def _read_again(self) -> int:
        """What an earlier run has left: the number of its chunks that are right; the rest is cut off."""
        size = os.fstat(self._fd).st_size
        count = 0
        for chunk in self._wanted.chunks():
            if chunk.offset + chunk.length > size:
                break
            self._beat()
            data = os.pread(self._fd, chunk.length, chunk.offset)
            if _sha256(data) != chunk.sha256:
                break
            self._take(data)
            count += 1
        fault_point("delta.truncate")
        os.ftruncate(self._fd, self._done)
        os.lseek(self._fd, self._done, os.SEEK_SET)
        return count

    def _write(self, plan: Plan, reader: RangeReader) -> None:
        for chunk, place in zip(islice(self._wanted.chunks(), plan.there, None), plan.places(), strict=True):
            self._beat()
            data = self._chunk(chunk, place, reader)
            fault_point("delta.write")
            durable.write_all(self._fd, data)
            self._take(data)
            self._unsynced += len(data)
            if self._unsynced >= _SYNC_BYTES:
                os.fdatasync(self._fd)
                self._unsynced = 0

    def _chunk(self, chunk: Chunk, place: Place, reader: RangeReader) -> bytes:
        """The bytes of one chunk, verified."""
        if place.seed == SOURCE:
            data = reader.read(chunk.offset, chunk.length)
            if _sha256(data) != chunk.sha256:
                raise DeltaFailed(
                    "SOURCE", f"the bytes at {chunk.offset} of {self._wanted.digest} are not those of the index"
                )
        elif place.seed == ITSELF:
            data = os.pread(self._fd, chunk.length, place.offset)
            if _sha256(data) != chunk.sha256:
                raise DeltaFailed("BAD_INDEX", f"two chunks of {self._wanted.digest} are and are not the same")
        else:
            data = self._seeds.read(place.seed, place.offset, chunk.length)
            if _sha256(data) != chunk.sha256:
                self._seeds.forget(place.seed)
                raise DeltaFailed("SEED", f"a local blob has rotted: {chunk.length} bytes at {place.offset}")
        return data

    def _take(self, data: bytes) -> None:
        self._whole.update(data)
        self._done += len(data)
        self._progress(len(data))

    def _throw_away(self) -> None:
        os.ftruncate(self._fd, 0)
        self._progress(-self._done)


def _sha256(data: bytes) -> bytes:
    digest = manifest.new_sha256()
    digest.update(data)
    return digest.digest()
