"""Kills, full disks and failing disks at every fault point of a repair and of a garbage collection.

Which points there are is found by running each change once with all points armed to print themselves.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.errors import ResourceExhausted
from appliance.osutil import durable, faults
from appliance.questions import Desired
from appliance.store import manifest
from appliance.store.blobs import Tick
from appliance.store.manifest import Descriptor
from appliance.store.store import Store
from tests.support import damaged_stores as damaged

# What a registry would have, kept outside of the state folder.
SHELF = "shelf"


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def prepare(folder: Path) -> Path:
    state = damaged.prepare(folder)
    shutil.copytree(state / "store/blobs/sha256", folder / SHELF)
    return state


def spoil_bytes(state: Path) -> None:
    """Damage of every kind at once: fetched, made anew, taken from a view, linked and written again."""
    rotten, config = damaged.file_of(state), damaged.config_of(state, "zeta")
    gone, idle = damaged.file_of(state, "README.md"), damaged.file_of(state, version="2.0.0")
    view, torn = damaged.view_of(state, "zeta"), damaged.manifest_of(state, version="2.0.0")
    for path in (rotten, config, idle):
        damaged.flip(path)
    gone.unlink()
    torn.unlink()
    (view / "labels.txt").unlink()
    (view / "stranger").mkdir()
    (state / "store/blobs/sha256/foreign").write_text("?")


def spoil_small_files(state: Path) -> None:
    text = (state / "state/desired.json").read_text()
    (state / "state/desired.json").write_text(text.replace('"1.0.0"', '"7.0.0"'))
    other = damaged.entry(state, "zeta", "1.0.0")["digest"]
    index = damaged.index(state)
    index.write_text(index.read_text().replace(other, "sha256:" + "1" * 64).replace("press:2.0.0", "press:2.0.7"))
    shutil.rmtree(damaged.view_of(state))
    (state / "store/oci-layout").write_text("?")


def forget(state: Path) -> None:
    """Garbage of every kind: a removed version, left-overs, orphans, something set aside."""
    index = damaged.index(state)
    view = damaged.view_of(state, "zeta")
    store = Store(state)
    store._index.drop("zeta", "1.0.0")  # as a remove that was killed after its commit
    blobs = state / "store/blobs/sha256"
    (blobs / ("0" * 64)).write_bytes(b"orphan")
    (blobs / ".x.7.tmp").write_bytes(b"half")
    (blobs / f"{'1' * 64}.broken").write_bytes(b"rotten")
    (state / "store/.index.json.7.tmp").write_bytes(b"half")
    (state / "models/press/.2.0.0.7.tmp").mkdir()
    (state / "models/press/.1.0.0.7.tmp").write_bytes(b"half")
    (state / "models/empty").mkdir()
    assert view.exists()
    assert index.exists()


def repair(state: Path) -> None:
    store = Store(state)
    shelf = state.parent / SHELF

    def fetch(blob: Descriptor, names: frozenset[str], tick: Tick) -> bool:
        source = shelf / blob.hex
        if not source.exists():
            return False
        fd = os.open(source, os.O_RDONLY)
        try:
            return store._blobs.copy(fd, source.name)
        finally:
            os.close(fd)

    store.heal_with(fetch)
    store.repair()


def collect(state: Path) -> None:
    Store(state).collect_garbage(set_aside=True)


Change = Callable[[Path], None]
CASES: list[tuple[Change, Change]] = [(spoil_bytes, repair), (spoil_small_files, repair), (forget, collect)]
EACH = pytest.mark.parametrize(("spoil", "change"), CASES, ids=lambda c: c.__name__)


def in_child(change: Change, state: Path, fault: str) -> int:
    """Runs ``change`` in a process of its own; its wait status."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            faults.arm(fault)
            change(state)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def points_of(spoil: Change, change: Change, folder: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    state = prepare(folder)
    spoil(state)
    capfd.readouterr()
    assert in_child(change, state, "*=print") == 0
    passed = [line for line in capfd.readouterr().err.splitlines() if line.startswith("store.") and " " not in line]
    return [f"{name}@{passed[: i + 1].count(name)}" for i, name in enumerate(passed)]


def check_whole(state: Path, collected: bool) -> None:
    expected = {"press:1.0.0", "press:2.0.0"} | (set() if collected else {"zeta:1.0.0"})
    store = Store(state)
    assert store.check().problems == ()
    assert damaged.digests(state).keys() == expected
    assert store.desired() == (Desired("press", "1.0.0"),)
    store.sweep()
    assert not [path for path in state.rglob("*") if durable.is_temp(path.name)]
    blobs = [path for path in (state / "store/blobs/sha256").iterdir() if manifest.is_hex(path.name)]
    for path in blobs:
        assert manifest.digest_of(path.read_bytes()) == "sha256:" + path.name
    assert Store(state).collect_garbage(dry_run=True).items == ()


@EACH
def test_a_kill_at_every_point_is_made_good_by_the_next_try(
    spoil: Change, change: Change, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    points = points_of(spoil, change, tmp_path / "dry", capfd)
    assert len(points) >= 10
    for number, point in enumerate(points):
        state = prepare(tmp_path / str(number))
        spoil(state)
        in_use = (
            {p.name: p.read_bytes() for p in damaged.view_of(state).iterdir() if p.is_file()}
            if (damaged.view_of(state).exists())
            else {}
        )
        assert os.WTERMSIG(in_child(change, state, point.replace("@", "=kill@"))) == 9, point
        for name, data in in_use.items():  # what is in use is there at every moment, as it was or whole
            now = (damaged.view_of(state) / name).read_bytes()
            assert now == data or "sha256:" + damaged.file_of(state, name).name == manifest.digest_of(now), point
        change(state)
        check_whole(state, collected=change is collect)


@EACH
@pytest.mark.parametrize("error", ["enospc", "eio"])
def test_a_failing_disk_at_every_point_is_told_and_made_good_by_the_next_try(
    spoil: Change, change: Change, error: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, point in enumerate(points_of(spoil, change, tmp_path / "dry", capfd)):
        state = prepare(tmp_path / str(number))
        spoil(state)
        faults.arm(point.replace("@", f"={error}@"))
        try:
            change(state)
        except (ResourceExhausted, OSError):
            pass
        finally:
            faults.arm("")
        change(state)
        check_whole(state, collected=change is collect)
