"""What kills, power cuts and earlier runs leave behind: never written through, never blamed on the next source."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flaky_source import FlakySource, Turn

from appliance.errors import Cancelled
from appliance.osutil import faults
from appliance.registry.pull.artefact import Places, tidy
from appliance.registry.pull.bandwidth import Bandwidth
from appliance.registry.pull.download import Download
from appliance.registry.sources.failures import Malformed, Unreachable
from appliance.store.blobs import Blobs
from appliance.store.manifest import Descriptor, digest_of

DATA = os.urandom(2_000)
BLOB = Descriptor("x/y", digest_of(DATA), len(DATA))
NOBODY = 65534


class Box:
    """A download into ``folder``, which may be gone on with by another one."""

    def __init__(self, folder: Path) -> None:
        self.partial = folder / "partial"
        self.file = self.partial / f"{BLOB.hex}.partial"
        self.blobs = Blobs(folder / "store")
        self.source = FlakySource(DATA)
        self.cancelled = False

    def run(self, *turns: Turn) -> None:
        self.source.turns[BLOB.digest] = list(turns)
        download = Download(self.partial, self.blobs, Bandwidth(), lambda: self.cancelled)
        download.run(self.source, "r", BLOB, lambda _: None)

    def leave(self, data: bytes, mode: int = 0o600) -> None:
        self.partial.mkdir(exist_ok=True)
        self.file.write_bytes(data)
        self.file.chmod(mode)

    @property
    def offsets(self) -> list[int]:
        return [offset for _, offset, _ in self.source.asked]

    def holds(self) -> bool:
        return self.blobs.holds(BLOB.hex, BLOB.size)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


def in_child(work: Callable[[], object], fault: str = "") -> int:
    """Runs ``work`` in a process of its own; its wait status."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            faults.arm(fault)
            work()
            status = 0
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("cut", range(0, len(DATA), 61))
def test_cut_anywhere_and_gone_on_with(box: Box, cut: int) -> None:
    with pytest.raises(Unreachable):
        box.run(Turn(cut=cut))
    box.run()
    assert box.holds()
    assert box.offsets == [0, cut]


@pytest.mark.parametrize("left", [bytes(1_000), DATA[:500] + bytes(500), DATA[:-1] + b"?", bytes(len(DATA))])
def test_bytes_lost_in_a_power_cut_are_fetched_again_in_the_same_run(box: Box, left: bytes) -> None:
    box.leave(left)
    box.run()
    assert box.holds()
    assert box.offsets[-1] == 0


def test_a_source_that_lies_behind_what_was_there_is_told_apart(box: Box) -> None:
    with pytest.raises(Unreachable):
        box.run(Turn(cut=1_000))
    with pytest.raises(Malformed, match="another digest"):
        box.run(Turn(instead=bytes(len(DATA))), Turn(instead=bytes(len(DATA))))
    assert box.offsets == [0, 1_000, 0]
    assert list(box.partial.iterdir()) == []


def test_a_partial_file_that_is_read_only_already_is_gone_on_with_without_privileges(tmp_path: Path) -> None:
    """As a kill between the blob's mode and its name leaves it, for a daemon that isn't root."""
    Box(tmp_path).leave(DATA[:1_000], mode=0o444)
    if os.geteuid() == 0:
        for path in (tmp_path, *tmp_path.rglob("*")):
            os.chown(path, NOBODY, NOBODY)

    def unprivileged() -> None:
        os.chdir(tmp_path)
        if os.geteuid() == 0:
            os.seteuid(NOBODY)
        box = Box(Path("."))
        box.run()
        assert box.offsets == [1_000]

    assert in_child(unprivileged) == 0
    assert Box(tmp_path).holds()


@pytest.mark.parametrize("decayed", [b"??" + DATA[2:], DATA[:100], DATA + b"x"], ids=["changed", "short", "long"])
def test_a_partial_file_that_has_become_a_blob_is_never_written_to(box: Box, tmp_path: Path, decayed: bytes) -> None:
    box.leave(decayed)
    view = tmp_path / "view"
    os.link(box.file, box.blobs.path(BLOB.hex))
    os.link(box.file, view)
    box.run()
    assert box.holds()
    assert view.read_bytes() == decayed
    assert box.offsets == [0]


def test_nothing_is_asked_once_it_is_cancelled(box: Box) -> None:
    box.cancelled = True
    with pytest.raises(Cancelled):
        box.run()
    assert box.source.asked == []


def points_of(folder: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """Every fault point that a download passes, with its number where it is passed more than once."""
    capfd.readouterr()
    assert in_child(lambda: Box(folder).run(), "*=print") == 0
    passed = capfd.readouterr().err.split()
    return [f"{name}={{}}@{passed[: i + 1].count(name)}" for i, name in enumerate(passed)]


def test_a_kill_and_a_failing_disk_at_every_point(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    points = points_of(tmp_path / "dry", capfd)
    assert len(points) >= 8
    for number, point in enumerate(points):
        for action in ("kill", "enospc", "eio"):
            box = Box(tmp_path / f"{number}-{action}")
            status = in_child(box.run, point.format(action))
            assert status == (9 if action == "kill" else 256), point
            assert not box.blobs.path(BLOB.hex).exists() or box.holds(), point
            box.run()
            assert box.holds(), point
            tidy(Places(box.partial.parent, box.blobs), [BLOB.digest])
            assert list(box.partial.iterdir()) == [], point
