"""One blob: cut, resumed, changed meanwhile, too long, too short, wrong; on disks that are full, broken or pulled out."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flaky_source import FlakySource, Turn

from appliance.errors import Cancelled
from appliance.osutil import faults
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.pull.download import Download
from appliance.registry.sources.failures import Malformed, Refused, Unreachable
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor, digest_of

DATA = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(20_000))  # 640 kB
BLOB = Descriptor("x/y", digest_of(DATA), len(DATA))


class Box:
    def __init__(self, folder: Path) -> None:
        self.partial = folder / "partial"
        self.blobs = Blobs(folder / "store")
        self.source = FlakySource(DATA)
        self.stop_after = -1
        self.came = 0

    def run(self, blob: Descriptor = BLOB) -> None:
        download = Download(self.partial, self.blobs, Bandwidth(), lambda: 0 <= self.stop_after <= self.came)
        self.came = 0
        download.run(self.source, "r", blob, self._count)

    def _count(self, count: int) -> None:
        self.came += count

    def turns(self, *turns: Turn) -> None:
        self.source.turns[BLOB.digest] = list(turns)

    @property
    def left(self) -> list[str]:
        return sorted(path.name.split(".")[-1] for path in self.partial.iterdir())

    @property
    def offsets(self) -> list[int]:
        return [offset for _, offset, _ in self.source.asked]

    def holds(self) -> bool:
        return self.blobs.holds(BLOB.hex, BLOB.size)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def test_a_blob_comes_whole(box: Box) -> None:
    box.run()
    assert box.holds()
    assert box.came == BLOB.size
    assert box.left == []
    assert box.blobs.path(BLOB.hex).stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("cut", [0, 1, 4096, 262_144, 262_145, 400_000, len(DATA) - 1])
def test_a_line_that_breaks_is_gone_on_with(box: Box, cut: int) -> None:
    box.turns(Turn(cut=cut))
    with pytest.raises(Unreachable):
        box.run()
    assert not box.holds()
    box.run()
    assert box.holds()
    assert box.offsets == [0, cut]
    assert box.source.asked[1][2] == ("v1" if cut else "")
    assert box.came == BLOB.size


def test_a_line_that_breaks_all_the_time(box: Box) -> None:
    box.turns(*(Turn(cut=50_000) for _ in range(12)))
    for _ in range(12):
        with pytest.raises(Unreachable):
            box.run()
    box.run()
    assert box.holds()
    assert box.offsets == [50_000 * n for n in range(13)]


def test_a_blob_that_has_changed_begins_anew(box: Box) -> None:
    box.turns(Turn(cut=100_000))
    with pytest.raises(Unreachable):
        box.run()
    box.source.validator = "v2"
    box.run()
    assert box.holds()
    assert box.came == BLOB.size


def test_a_server_that_ignores_the_range_sends_it_all(box: Box) -> None:
    box.turns(Turn(cut=100_000), Turn(whole=True))
    with pytest.raises(Unreachable):
        box.run()
    box.run()
    assert box.holds()
    assert box.came == BLOB.size


@pytest.mark.parametrize(
    ("turns", "words"),
    [
        ([Turn(more=b"x")], "more of"),
        ([Turn(instead=DATA[:-1] + b"?")], "another digest"),
        ([Turn(instead=bytes(len(DATA)))], "another digest"),
        ([Turn(cut=1000), Turn(shift=1)], "from 1001, not from 1000 on"),
        ([Turn(shift=5)], "from 5, not from 0 on"),
    ],
)
def test_what_is_not_the_blob_is_thrown_away(box: Box, turns: list[Turn], words: str) -> None:
    box.turns(*turns)
    for _ in turns[1:]:
        with pytest.raises(Unreachable):
            box.run()
    with pytest.raises(Malformed, match=words):
        box.run()
    assert not box.holds()
    assert box.left == []
    box.run()
    assert box.holds()
    assert box.offsets[-1] == 0


@pytest.mark.parametrize("instead", [b"", DATA[:5], DATA[:-1]])
def test_a_short_answer_is_gone_on_with(box: Box, instead: bytes) -> None:
    box.turns(Turn(instead=instead))
    with pytest.raises(Unreachable, match=f"sent {len(instead)} of"):
        box.run()
    box.run()
    assert box.holds()
    assert box.offsets == [0, len(instead)]


def test_a_refusal_is_told_and_keeps_what_came(box: Box) -> None:
    box.turns(Turn(cut=1000), Turn(refuse=Refused("who are you?")))
    for error in (Unreachable, Refused):
        with pytest.raises(error):
            box.run()
    box.run()
    assert box.offsets == [0, 1000, 1000]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"?" * 1000),
        lambda path: path.write_bytes(DATA + b"x"),
        lambda path: path.write_bytes(DATA[:-1] + b"?"),
        lambda path: path.write_bytes(b""),
    ],
)
def test_a_partial_file_that_has_decayed(box: Box, spoil: Callable[[Path], object]) -> None:
    box.turns(Turn(cut=1000))
    with pytest.raises(Unreachable):
        box.run()
    spoil(box.partial / f"{BLOB.hex}.partial")
    try:
        box.run()
    except Malformed:
        box.run()
    assert box.holds()


def test_a_partial_file_that_is_whole_needs_no_request(box: Box) -> None:
    box.partial.mkdir()
    (box.partial / f"{BLOB.hex}.partial").write_bytes(DATA)
    box.run()
    assert box.holds()
    assert box.source.asked == []


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(box: Box, tmp_path: Path) -> None:
    box.partial.mkdir()
    (tmp_path / "precious").write_bytes(b"precious")
    (box.partial / f"{BLOB.hex}.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        box.run()
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_it_can_be_stopped_and_goes_on(box: Box) -> None:
    box.stop_after = 300_000
    with pytest.raises(Cancelled):
        box.run()
    assert not box.holds()
    box.stop_after = -1
    box.run()
    assert box.holds()
    assert 0 < box.offsets[1] < BLOB.size


def test_an_empty_blob(box: Box) -> None:
    empty = Descriptor("x/y", digest_of(b""), 0)
    box.source.blobs[empty.digest] = b""
    box.run(empty)
    assert box.blobs.size(empty.hex) == 0


POINTS = ("pull.validator.write", "pull.validator.rename", "pull.write", "pull.sync", "pull.take", "store.blob.link")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_disk_that_fails(box: Box, point: str, action: str) -> None:
    faults.arm(f"{point}={action}")
    try:
        with pytest.raises(OSError, match=point):
            box.run()
    finally:
        faults.arm("")
    assert not box.holds()
    box.run()
    assert box.holds()
    assert box.left == []


_KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from test_download import Box
Box(Path({folder!r})).run()
"""


@pytest.mark.parametrize("point", ["pull.validator.folder", "pull.write@2", "pull.sync", "pull.take", "store.blob.rename",
                                   "store.blob.folder"])  # fmt: skip
def test_a_kill_at_any_moment(tmp_path: Path, point: str) -> None:
    name, _, nth = point.partition("@")
    code = _KILLED.format(path=[str(Path(__file__).parent), *sys.path], folder=str(tmp_path))
    environment = {"APPLIANCE_FAULTS": f"{name}=kill" + (f"@{nth}" if nth else "")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, check=False)
    assert done.returncode == -9
    box = Box(tmp_path)
    box.run()
    assert box.holds()
    assert box.left == []
