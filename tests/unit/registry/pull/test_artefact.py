"""Whole artefacts: what is missing, side by side, within a bandwidth, with failures and room that runs out."""

import threading
from collections import namedtuple
from pathlib import Path

import pytest
from flaky_source import FlakySource, Turn

from appliance.errors import Cancelled, ResourceExhausted
from appliance.registry.pull.artefact import Places, plan, pull, tidy
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.sources.failures import Malformed, Refused, Unreachable
from appliance.store import manifest
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor, digest_of

PARTS = [bytes([n]) * (10_000 * n) for n in range(1, 8)]


def artefact_of(parts: list[bytes]) -> bytes:
    config, *layers = (Descriptor("x/y", digest_of(part), len(part)) for part in parts)
    made = manifest.Manifest(manifest.MANIFEST_TYPE, config, tuple(layers), manifest.ARTIFACT_TYPE, schema_version=2)
    return manifest.canonical(made)


class Box:
    def __init__(self, folder: Path) -> None:
        self.places = Places(folder, Blobs(folder / "store"))
        self.source = FlakySource(*PARTS)
        self.cancelled = threading.Event()
        self.seen: list[tuple[int, int]] = []

    def pull(self, parts: list[bytes] = PARTS, parallel: int = 3) -> None:
        missing = plan(artefact_of(parts), self.places.blobs)
        pull(self.source, "r", missing, self.places, Bandwidth(), parallel, self._saw, self.cancelled)

    def _saw(self, done: int, total: int) -> None:
        self.seen.append((done, total))

    @property
    def missing(self) -> int:
        return len(plan(artefact_of(PARTS), self.places.blobs).blobs)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.mark.parametrize("parallel", [0, 1, 4, 50])
def test_all_blobs_come(box: Box, parallel: int) -> None:
    box.pull(parallel=parallel)
    assert box.missing == 0
    total = sum(map(len, PARTS))
    assert max(box.seen) == (total, total)
    assert list(box.places.partial.iterdir()) == []


def test_what_is_there_is_not_fetched(box: Box) -> None:
    box.pull(PARTS[:4])
    box.source.asked.clear()
    box.pull()
    assert {digest for digest, _, _ in box.source.asked} == {digest_of(part) for part in PARTS[4:]}
    assert box.missing == 0


def test_two_files_with_the_same_bytes_come_once(box: Box) -> None:
    box.pull([*PARTS, PARTS[3], PARTS[3]])
    assert len(box.source.asked) == len(PARTS)


def test_a_line_that_breaks_is_borne_as_long_as_something_comes(box: Box) -> None:
    for part in PARTS:
        box.source.turns[digest_of(part)] = [Turn(cut=max(1, len(part) // 20)) for _ in range(15)]
    box.pull()
    assert box.missing == 0
    assert max(done for done, _ in box.seen) <= sum(map(len, PARTS))


def test_a_line_on_which_nothing_comes_is_given_up(box: Box) -> None:
    box.source.turns[digest_of(PARTS[2])] = [Turn(cut=0)] * 100
    with pytest.raises(Unreachable):
        box.pull(parallel=1)
    assert len(box.source.turns[digest_of(PARTS[2])]) == 96
    box.source.turns.clear()
    box.pull()
    assert box.missing == 0


@pytest.mark.parametrize(
    ("turn", "error"),
    [
        (Turn(refuse=Refused("no")), Refused),
        (Turn(more=b"x"), Malformed),
        (Turn(refuse=RuntimeError("a bug")), RuntimeError),
    ],
)
def test_the_first_failure_ends_it_all(box: Box, turn: Turn, error: type[Exception]) -> None:
    box.source.turns[digest_of(PARTS[0])] = [turn]
    with pytest.raises(error):
        box.pull()
    box.pull()
    assert box.missing == 0


def test_it_can_be_cancelled(box: Box) -> None:
    box.cancelled.set()
    with pytest.raises(Cancelled):
        box.pull()
    box.cancelled.clear()
    box.pull()
    assert box.missing == 0


def test_a_disk_without_room_is_told_before_anything_comes(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "f_bavail f_frsize")
    monkeypatch.setattr("os.statvfs", lambda _: usage(1, 1000))
    with pytest.raises(ResourceExhausted, match="bytes"):
        box.pull()
    assert box.source.asked == []


def test_left_overs_of_other_artefacts_go(box: Box) -> None:
    box.source.turns[digest_of(PARTS[6])] = [Turn(cut=30_000), *[Turn(cut=0)] * 10]
    with pytest.raises(Unreachable):
        box.pull(PARTS[6:])
    assert len(list(box.places.partial.iterdir())) == 2
    tidy(box.places, [digest_of(PARTS[6])])
    assert len(list(box.places.partial.iterdir())) == 2
    tidy(box.places, [digest_of(PARTS[5])])
    assert list(box.places.partial.iterdir()) == []
    tidy(Places(Path("/nowhere"), box.places.blobs), [])


def test_a_manifest_that_is_none() -> None:
    with pytest.raises(Malformed, match="no manifest"):
        plan(b"{}", None)  # type: ignore[arg-type]


def test_memory_does_not_grow_with_the_blob(tmp_path: Path) -> None:
    """300 MB of zeros, of which none may stay in memory."""
    import subprocess
    import sys

    code = """
import hashlib, sys, threading
from pathlib import Path
from appliance.registry.pull import artefact
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor
SIZE, PIECE = 300_000_000, bytes(1 << 18)
class Zeros:
    offset, validator = 0, ""
    def __init__(self): self.left = SIZE
    def read(self, size):
        piece = PIECE[: min(size, self.left)]
        self.left -= len(piece)
        return piece
    def __enter__(self): return self
    def __exit__(self, *_): ...
class Source:
    name = "zeros"
    def blob(self, *_, **__): return Zeros()
digest = hashlib.sha256()
for _ in range(SIZE // len(PIECE)): digest.update(PIECE)
digest.update(PIECE[: SIZE % len(PIECE)])
state = Path(sys.argv[1])
blob = Descriptor("x/y", "sha256:" + digest.hexdigest(), SIZE)
places = artefact.Places(state, Blobs(state / "store"))
artefact.pull(Source(), "r", artefact.Missing((blob,), SIZE), places, Bandwidth(), 2, lambda *_: None, threading.Event())
assert places.blobs.size(blob.hex) == SIZE
# ru_maxrss would also count what the test's own process held when it forked.
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 * 1024


def test_a_blob_that_has_decayed_in_the_store_comes_again(box: Box) -> None:
    box.pull()
    path = box.places.blobs.path(digest_of(PARTS[4])[7:])
    path.chmod(0o644)
    path.write_bytes(bytes(len(PARTS[4])))
    data = artefact_of(PARTS)
    assert plan(data, box.places.blobs).blobs == ()
    missing = plan(data, box.places.blobs, thorough=True)
    assert [blob.digest for blob in missing.blobs] == [digest_of(PARTS[4])]
    pull(box.source, "r", missing, box.places, Bandwidth(), 1, box._saw, box.cancelled)
    assert plan(data, box.places.blobs, thorough=True).blobs == ()
