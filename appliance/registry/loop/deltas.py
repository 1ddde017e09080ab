"""A release's large blobs out of local ones and a few ranges, before they are downloaded: the download finds them whole.

Nothing here fails but a full disk and a cancellation: whatever else goes wrong, the download does what it would have done.
"""

import logging
import threading
from collections.abc import Callable, Mapping

from appliance.errors import ApplianceError, Cancelled
from appliance.osutil.faults import fault_point
from appliance.registry.delta import chunking, rebuild, reference, seeds
from appliance.registry.delta.failures import DeltaFailed
from appliance.registry.delta.index import Index
from appliance.registry.delta.seeds import Seed, Seeds
from appliance.registry.loop import local
from appliance.registry.pull.artefact import Hooks, Missing, Places
from appliance.registry.pull.download import PARTIAL
from appliance.registry.release import Release
from appliance.registry.sources.base import Source
from appliance.store import disk
from appliance.store.blobs import Tick
from appliance.store.index import Key
from appliance.store.manifest import Descriptor

_log = logging.getLogger(__name__)

# A seed that has rotted or vanished is left out of the next plan; what is right of the blob stays.
_TRIES = 3
_FOLDER = "chunks"


def begin(
    source: Source,
    release: Release,
    missing: Missing,
    places: Places,
    refs: Mapping[Key, Descriptor],
    pace: Tick,
) -> "Deltas | None":
    """Fetches the release's chunk index where it may be of use; None: all is downloaded. Raises Cancelled (from ``pace``)."""
    large = [blob for blob in missing.blobs if chunking.fits(blob.size, chunking.average_bits(blob.size))]
    if release.chunks is None or not large:
        return None
    try:
        fault_point("delta.begin")
        seeds.tidy(places.state / _FOLDER, set(places.blobs.names()))
        found = local.seeds(release.line, [blob.digest for blob in missing.blobs], refs, places)
        if not found:
            return None
        index = reference.fetch(source, release.repository, release.chunks, pace)
    except Cancelled:
        raise
    except (DeltaFailed, OSError) as error:
        _log.info("%s %s is fetched whole: %s", release.line, release.version, error)
        return None
    except Exception:
        _log.info("%s %s is fetched whole", release.line, release.version, exc_info=True)
        return None
    return Deltas(source, release, index, found, places)


class Deltas:
    """Of one release. ``prepare`` is called by several threads, each with another blob."""

    def __init__(self, source: Source, release: Release, index: Index, found: list[Seed], places: Places) -> None:
        self._source = source
        self._release = release
        self._index = index
        self._places = places
        self._seeds = Seeds(places.state / _FOLDER, found)
        self._lock = threading.Lock()
        self._saved = -(release.chunks.size if release.chunks else 0)

    @property
    def saved_bytes(self) -> int:
        """What did not have to come, the index that did counted in."""
        return max(0, self._saved)

    def prepare(self, blob: Descriptor, hooks: Hooks) -> None:
        """Makes the partial file of a blob, whole or as far as it goes. Raises Cancelled, OSError of a full disk."""
        if blob.digest not in self._index.entries:
            return
        for _ in range(_TRIES):
            if self._is_settled(lambda: self._rebuild(blob, hooks), blob):
                return
            hooks.again()

    def _rebuild(self, blob: Descriptor, hooks: Hooks) -> None:
        saved = rebuild.rebuild(
            self._source,
            self._release.repository,
            self._index.of(blob.digest, blob.size),
            self._seeds,
            self._places.partial / f"{blob.hex}{PARTIAL}",
            progress=hooks.came,
            cancelled=hooks.cancelled,
            pace=hooks.pace,
        )
        with self._lock:
            self._saved += saved.size - saved.there - saved.fetched

    @staticmethod
    def _is_settled(run: Callable[[], None], blob: Descriptor) -> bool:
        """Whether there is nothing more to be done about a blob here: it is whole, or is to be downloaded."""
        try:
            run()
        except DeltaFailed as error:  # rebuild has logged it
            return error.reason != "SEED"
        except Cancelled:
            raise
        except ApplianceError as error:
            _log.info("%s is fetched whole: %s", blob.digest, error.message)
        except OSError as error:
            if disk.is_full(error):
                raise
            _log.info("%s is fetched whole: %s", blob.digest, error)
        except Exception:
            _log.info("%s is fetched whole", blob.digest, exc_info=True)
        return True
