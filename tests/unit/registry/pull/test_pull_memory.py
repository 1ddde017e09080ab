"""The memory of a pull over a real HTTP connection: bounded, whatever the blobs' size and however many come at a time."""

import subprocess
import sys
from pathlib import Path

import pytest
from registry_simulator import RegistrySimulator

from appliance.store.manifest import Descriptor, digest_of

BYTES = 192_000_000
MOST_MB = 64

_PULL = """
import sys, threading
from pathlib import Path
import msgspec
from appliance.registry.http.options import HttpOptions
from appliance.registry.http.source import HttpSource
from appliance.registry.pull import artefact
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.trust import releases  # what the sync process has loaded by then
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor

def most():
    # ru_maxrss would also count what the test's own process held when it forked.
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))

url, folder, *blobs = sys.argv[1:]
blobs = tuple(Descriptor("x/y", digest, int(size)) for digest, size in (blob.split("=") for blob in blobs))
state = Path(folder)
places = artefact.Places(state, Blobs(state / "store"))
missing = artefact.Missing(blobs, sum(blob.size for blob in blobs))
before = most()
artefact.pull(HttpSource(HttpOptions(url=url)), "r", missing, places, Bandwidth(), 16, lambda *_: None, threading.Event())
assert all(places.blobs.size(blob.hex) == blob.size for blob in blobs)
print(before, most())
"""


@pytest.mark.parametrize("count", [1, 16])
def test_memory_does_not_grow_with_the_blobs(tmp_path: Path, count: int) -> None:
    registry = RegistrySimulator()
    parts = [bytes([number]) * (BYTES // count) for number in range(count)]
    blobs = [Descriptor("x/y", digest_of(part), len(part)) for part in parts]
    for part, blob in zip(parts, blobs, strict=True):
        registry.blobs["r", blob.digest] = part
    words = [f"{blob.digest}={blob.size}" for blob in blobs]
    with registry.running():
        done = subprocess.run(
            [sys.executable, "-c", _PULL, registry.url, str(tmp_path), *words],
            capture_output=True,
            text=True,
            check=True,
        )
    before, most = (int(word) * 1024 / 1e6 for word in done.stdout.split())
    assert 10 < before < most < MOST_MB
