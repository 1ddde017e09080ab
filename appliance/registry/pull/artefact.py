"""All blobs of an artefact: a plan of what is missing, then the downloads, some at a time, within one bandwidth."""

import os
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from appliance import limits
from appliance.errors import Cancelled
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.pull.download import PARTIAL, VALIDATOR, Came, Download
from appliance.registry.sources.base import Source
from appliance.registry.sources.failures import Malformed, Unreachable
from appliance.store import disk, manifest
from appliance.store.blobs import Blobs, Tick
from appliance.store.manifest import Descriptor

# Called with the bytes that are there and those of the whole artefact, from any thread.
Progress = Callable[[int, int], None]


class Hooks(NamedTuple):
    """What whoever makes a blob's partial file reports to.

    ``came``: bytes that are in place now. ``again``: it counts from the blob's beginning once more. ``pace``: bytes came
    over the network; it waits. ``cancelled``: it must stop.
    """

    came: Came
    again: Callable[[], None]
    pace: Tick
    cancelled: Callable[[], bool]


# Called with each blob before it is downloaded, from the thread that will do that: may leave a part of it, or all, in the
# partial file. May raise OSError of the disk and Cancelled.
Prepare = Callable[[Descriptor, Hooks], None]


class Missing(NamedTuple):
    """What a pull must bring. ``total``: bytes of all blobs, those that are there included."""

    blobs: tuple[Descriptor, ...]
    total: int

    @property
    def bytes(self) -> int:
        """To be fetched."""
        return sum(blob.size for blob in self.blobs)


class Places(NamedTuple):
    """Where a pull works. ``state``: the folder whose disk must have room; partial files are in ``state``/partial."""

    state: Path
    blobs: Blobs

    @property
    def partial(self) -> Path:
        """The folder of what has come in part."""
        return self.state / "partial"


def plan(data: bytes, blobs: Blobs, *, thorough: bool = False) -> Missing:
    """What is missing of the artefact with the manifest ``data``, each digest once. Raises Malformed.

    ``thorough``: blobs that are there are read, and fetched again where they have decayed; else their size is enough.
    """
    try:
        parsed = manifest.parse(data)
    except manifest.BadManifest as error:
        raise Malformed(f"the artefact has no manifest that can be read: {error}") from None
    distinct = {blob.digest: blob for blob in parsed.blobs}.values()
    missing = tuple(
        blob
        for blob in distinct
        if not (blobs.holds(blob.hex, blob.size) if thorough else blobs.size(blob.hex) == blob.size)
    )
    return Missing(missing, sum(blob.size for blob in distinct))


def tidy(places: Places, wanted: Collection[str]) -> None:
    """Removes what earlier pulls have left of other blobs than ``wanted`` (digests)."""
    names = {digest.partition(":")[2] for digest in wanted}
    if not places.partial.is_dir():
        return
    for path in places.partial.iterdir():
        if path.name.removesuffix(PARTIAL).removesuffix(VALIDATOR) not in names:
            path.unlink(missing_ok=True)


def pull(
    source: Source,
    repository: str,
    missing: Missing,
    places: Places,
    bandwidth: Bandwidth,
    parallel: int,
    progress: Progress,
    cancelled: threading.Event,
    prepare: Prepare | None = None,
) -> None:
    """Returns when nothing is missing. Whatever it raises, what has come stays, and the next pull goes on there.

    Raises ResourceExhausted DISK_FULL, Cancelled, the first of the sources' failures that more tries didn't mend.
    """
    failed = threading.Event()
    counted = _Counted(missing, progress)
    disk.check_room(places.state, missing.bytes - _there(places, missing))
    download = Download(places.partial, places.blobs, bandwidth, lambda: cancelled.is_set() or failed.is_set())

    def one(blob: Descriptor) -> None:
        try:
            with disk.full_is_refused(places.state, blob.size):
                if prepare is not None:
                    prepare(blob, counted.hooks(blob, download))
                    counted.again(blob)
                _patiently(download, source, repository, blob, counted)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(max(1, parallel), thread_name_prefix="pull") as pool:
        futures = [pool.submit(one, blob) for blob in missing.blobs]
        errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        # Those that were only stopped because of another say nothing.
        raise next((error for error in errors if not isinstance(error, Cancelled)), errors[0])


def _patiently(download: Download, source: Source, repository: str, blob: Descriptor, counted: "_Counted") -> None:
    """A line that breaks again and again is borne as long as something comes each time."""
    idle = furthest = 0
    while True:
        try:
            download.run(source, repository, blob, lambda count: counted.came(blob, count))
        except Unreachable:
            reached = counted.of(blob)
            idle = 0 if reached > furthest else idle + 1
            furthest = max(furthest, reached)
            if idle > limits.pull_idle_tries_max:
                raise
            counted.again(blob)
        else:
            return


def _there(places: Places, missing: Missing) -> int:
    found = 0
    for blob in missing.blobs:
        path = places.partial / f"{blob.hex}{PARTIAL}"
        found += min(path.stat().st_size, blob.size) if os.path.lexists(path) else 0
    return found


class _Counted:
    """How far each blob is, and all together."""

    def __init__(self, missing: Missing, progress: Progress) -> None:
        self._lock = threading.Lock()
        self._of: dict[str, int] = {}
        # What is counted once more is not shown as lost.
        self._shown: dict[str, int] = {}
        self._there = missing.total - missing.bytes
        self._total = missing.total
        self._progress = progress

    def of(self, blob: Descriptor) -> int:
        """Bytes of the blob that have come."""
        return self._of.get(blob.digest, 0)

    def came(self, blob: Descriptor, count: int) -> None:
        """So many more, or fewer."""
        with self._lock:
            now = self._of[blob.digest] = self._of.get(blob.digest, 0) + count
            if count < 0 or now > self._shown.get(blob.digest, 0):
                self._shown[blob.digest] = now
            # Within the lock: two threads would tell it in another order.
            self._progress(self._there + sum(self._shown.values()), self._total)

    def again(self, blob: Descriptor) -> None:
        """A run begins by counting what is there."""
        with self._lock:
            self._of[blob.digest] = 0

    def hooks(self, blob: Descriptor, download: Download) -> Hooks:
        """For what comes before the blob's download."""
        return Hooks(
            came=lambda count: self.came(blob, count),
            again=lambda: self.again(blob),
            pace=download.pace,
            cancelled=download.is_cancelled,
        )
