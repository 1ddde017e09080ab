"""Power cuts, full disks and decayed files: what was verified last stays readable, and the next refresh completes.

Which points there are is found by running each change once with all points armed to print themselves; then it runs once
for every point passed, in a forked process that dies there.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.clock import FakeClock
from appliance.osutil import durable, faults
from appliance.registry.trust.failures import Untrusted
from tests.support.trust_box import Box
from tests.support.tuf_repository import TufRepository, TufSource

OLD = [("press", "1.0.0"), ("weld", "2.0.0")]
NEW = [("press", "1.0.0"), ("press", "1.1.0"), ("weld", "2.0.0")]
OTHER = [("grab", "5.0.0")]

Change = Callable[[Box], None]


def other_publisher(clock: FakeClock) -> TufRepository:
    made = TufRepository(clock, ["grab"])
    made.release("grab", "5.0.0")
    made.publish("models.grab")
    return made


def refresh(box: Box) -> None:
    box.trust.refresh()


def replace_root(box: Box) -> None:
    box.trust.install(box.source.repository.files["1.root.json"], force=True)
    box.trust.refresh()


def next_root(box: Box) -> None:
    box.trust.install(box.source.repository.files["2.root.json"])
    box.trust.refresh()


def reset_clock(box: Box) -> None:
    box.trust.clock.reset()
    box.trust.refresh()


CHANGES: list[Change] = [refresh, replace_root, next_root, reset_clock]


@pytest.fixture
def prepared(box: Box, repo: TufRepository, clock: FakeClock, request: pytest.FixtureRequest) -> tuple[Box, Change]:
    """A box that has verified the old releases, and a registry with what the change will bring."""
    change = request.param
    assert box.versions() == OLD
    clock.advance(7200)
    if change is replace_root:
        box.source = TufSource(other_publisher(clock))
    else:
        repo.rotate("timestamp")
        repo.publish_root()
        repo.release("press", "1.1.0")
        repo.publish("targets", "models.press")
    box.restart()
    return box, change


def in_child(change: Change, box: Box, fault: str) -> int:
    pid = os.fork()
    if not pid:
        try:
            faults.arm(fault)
            change(box)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def copy(box: Box, folder: Path) -> Box:
    shutil.copytree(box.folder, folder, symlinks=True)
    return Box(folder, box.source, box.clock)


def points_of(change: Change, box: Box, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    capfd.readouterr()
    assert in_child(change, copy(box, tmp_path / "dry"), "*=print") == 0
    passed = [line for line in capfd.readouterr().err.splitlines() if line.startswith("trust.") and " " not in line]
    return [f"{name}@{passed[: i + 1].count(name)}" for i, name in enumerate(passed)]


def temps(box: Box) -> list[Path]:
    return [path for path in box.folder.rglob("*") if durable.is_temp(path.name)]


@pytest.mark.parametrize("prepared", CHANGES, indirect=True, ids=lambda change: change.__name__)
def test_kill_at_every_point(prepared: tuple[Box, Change], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    box, change = prepared
    points = points_of(change, box, tmp_path, capfd)
    assert len(points) >= 20, points
    new = OTHER if change is replace_root else NEW
    seen = set()
    for number, point in enumerate(points):
        one = copy(box, tmp_path / str(number))
        assert os.WTERMSIG(in_child(change, one, point.replace("@", "=kill@"))) == 9, point
        one.restart()
        seen.add(tuple(one.last()))
        assert one.last() in (OLD, new, [] if change is replace_root else OLD), point
        change(one)
        assert one.versions() == new, point
        one.restart()
        assert one.last() == new, point
        assert len(list(one.folder.glob("chain.*"))) == 1
        assert not temps(one), point
    assert {tuple(OLD), tuple(new)} <= seen


@pytest.mark.parametrize("kind", ["enospc", "eio"])
@pytest.mark.parametrize("prepared", [refresh], indirect=True, ids=["refresh"])
def test_a_disk_that_fails_at_every_point(
    prepared: tuple[Box, Change], kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same object serves on, and so does one that is opened afterwards."""
    box, change = prepared
    for number, point in enumerate(points_of(change, box, tmp_path, capfd)):
        one = copy(box, tmp_path / str(number))
        faults.arm(point.replace("@", f"={kind}@"))
        with pytest.raises(OSError, match="fault point"):
            one.trust.refresh()
        faults.arm("")
        assert one.last() in (OLD, NEW), point
        assert one.versions() == NEW, point
        one.restart()
        assert one.versions() == NEW, point
        assert not temps(one), point


def flips(path: Path, count: int = 25) -> list[bytes]:
    good = path.read_bytes()
    made = []
    for number in range(count):
        bad = bytearray(good)
        bad[number * len(good) // count] ^= 1 << (number % 8)
        made.append(bytes(bad))
    return [*made, b"", good[: len(good) // 2], good + b"x", b"\0" * len(good)]


FILES = [
    "root.json", "root.copy.json", "clock_floor", "kept", "metadata/timestamp.json", "metadata/snapshot.json",
    "metadata/targets.json", "metadata/models.press.json", "metadata/root_history/1.root.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_decayed_files_are_seen_and_healed(box: Box, name: str) -> None:
    """With the registry away nothing is lost, and with it everything is as before."""
    box.trust.refresh()
    path = (box.chain if name == "kept" or "/" in name else box.folder) / name
    good = path.read_bytes()
    for bad in flips(path):
        path.write_bytes(bad)
        box.restart()
        assert box.last() == OLD
        assert box.versions() == OLD
        box.restart()
        assert box.last() == OLD
        path.write_bytes(good)


@pytest.mark.parametrize("name", FILES[3:])
@pytest.mark.parametrize("how", ["removed", "a folder", "a dangling link"])
def test_files_that_are_something_else(box: Box, name: str, how: str) -> None:
    box.trust.refresh()
    path = box.chain / name
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "a dangling link":
        path.symlink_to("nowhere")
    box.restart()
    assert box.last() == OLD
    assert box.versions() == OLD
    box.restart()
    assert box.last() == OLD


def test_all_metadata_are_lost_and_come_back(box: Box) -> None:
    box.trust.refresh()
    shutil.rmtree(box.chain)
    box.restart()
    assert box.last() == []
    assert box.versions() == OLD


def test_a_decayed_cache_and_a_decayed_set_are_no_releases(box: Box) -> None:
    box.trust.refresh()
    (box.chain / "kept").write_bytes(b"{}")
    (box.cache / "snapshot.json").write_bytes(b"{}")
    box.restart()
    assert box.last() == []
    assert box.versions() == OLD


@pytest.mark.parametrize("lost", [True, False], ids=["kept set lost", "kept set there"])
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "models.press"])
def test_a_cached_file_in_other_bytes(box: Box, role: str, lost: bool) -> None:
    """A flip that leaves the signature right (a capital in hexadecimal): the client doesn't compare a snapshot's hash."""
    box.trust.refresh()
    path = box.cache / f"{role}.json"
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"sig"', b' "sig"'))
    if lost:
        (box.chain / "kept").unlink()
    box.restart()
    assert box.versions() == OLD
    assert path.read_bytes() == good or role == "timestamp"
    box.restart()
    assert box.last() == OLD


def test_kept_metadata_that_somebody_has_edited(box: Box) -> None:
    """Digests in them are signed: another one is no release, on the box as on the wire."""
    digest = next(r.digest for r in box.trust.refresh().releases if r.line == "press")
    for path in (box.chain / "kept", box.cache / "models.press.json"):
        text = path.read_text()
        path.write_text(text.replace(digest.removeprefix("sha256:"), "0" * 64))
        assert path.read_text() != text
    box.restart()
    assert box.last() == [] or box.last() == OLD[1:]
    assert box.versions() == OLD


def test_a_torn_refresh_by_an_attacker_keeps_the_last_set(box: Box, repo: TufRepository) -> None:
    """A good timestamp with its snapshot withheld: the client's cache no longer fits together, the kept set does."""
    box.trust.refresh()
    repo.release("press", "1.1.0")
    repo.publish("models.press")
    del repo.files["3.snapshot.json"]
    with pytest.raises(Untrusted, match=r"3.snapshot.json .* is missing"):
        box.trust.refresh()
    box.restart()
    assert box.last() == OLD
