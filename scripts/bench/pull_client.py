"""Our client as a process of its own: the artefact of one place into one folder, as the sync process brings it.

python -m bench.pull_client LAYOUT|URL CA REPOSITORY TAG FOLDER PARALLEL
"""

import sys
import threading
from pathlib import Path

from appliance import limits
from appliance.registry.pull import artefact
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.sources.base import Source
from appliance.registry.sources.layout import LayoutSource
from appliance.store.blobs import Blobs


def source_of(place: str, ca: str) -> Source:
    """``ca``: PEM file of the authority, empty for none."""
    if not place.startswith("http"):
        return LayoutSource(Path(place))
    from appliance.registry.http.options import HttpOptions
    from appliance.registry.http.source import HttpSource

    return HttpSource(HttpOptions(url=place, ca=ca))


def pull(place: str, ca: str, repository: str, tag: str, folder: str, parallel: str) -> None:
    """Without the trust, and without the store's catalogue."""
    source = source_of(place, ca)
    found = source.manifest(repository, tag, bytes_max=limits.manifest_bytes_max)
    if found is None:
        raise SystemExit("there is no manifest")
    places = artefact.Places(Path(folder), Blobs(Path(folder, "store")))
    missing = artefact.plan(found.data, places.blobs)
    artefact.pull(source, repository, missing, places, Bandwidth(), int(parallel), lambda *_: None, threading.Event())


if __name__ == "__main__":
    pull(*sys.argv[1:])
