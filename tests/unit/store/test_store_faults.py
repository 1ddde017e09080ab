"""Power cuts and full disks at every fault point of the store: old or new, never neither, and the next try succeeds.

Which points there are is found by running each change once with all points armed to print themselves; then the change
runs once for every point passed, in a forked process that dies there.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.errors import NotFound, ResourceExhausted
from appliance.osutil import durable, faults
from appliance.questions import Desired
from appliance.store import disk, manifest
from appliance.store.store import Store
from tests.support import model_folders as folders

Change = Callable[[Path, Path], None]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def prepare(tmp_path: Path) -> tuple[Path, Path]:
    """A state folder with press 1.0.0 and 1.1.0, the first active, and a folder with 2.0.0 on its way in."""
    state = tmp_path / "state"
    store = Store(state)
    store.add(folders.make(tmp_path / "a", folders.onnx_toml("1.0.0")))
    store.add(folders.make(tmp_path / "b", folders.onnx_toml("1.1.0"), **{"model.onnx": b"second"}))
    store.set_desired(Desired("press", "1.0.0"))
    return state, folders.make(tmp_path / "c", folders.onnx_toml("2.0.0"), **{"model.onnx": b"third"})


def add(state: Path, incoming: Path) -> None:
    Store(state).add(incoming, consume=True)


def add_by_copy(state: Path, incoming: Path) -> None:
    Store(state).add(incoming)


def remove(state: Path, incoming: Path) -> None:
    with contextlib.suppress(NotFound):  # it is gone already when the change is made again after its commit
        Store(state).remove("press", "1.1.0")


def desire(state: Path, incoming: Path) -> None:
    Store(state).set_desired(Desired("press", "1.1.0", ("1.0.0",)))


def first_open(state: Path, incoming: Path) -> None:
    Store(state.with_name("fresh")).sweep()


def rebuild(state: Path, incoming: Path) -> None:
    (state / "store/index.json").write_text("corrupt")
    (state / "state/desired.json").write_text("corrupt")
    Store(state)


CHANGES: list[Change] = [add, add_by_copy, remove, desire, first_open, rebuild]


def snapshot(state: Path) -> tuple[object, object]:
    store = Store(state)
    return tuple((m.version, m.digest) for m in store.versions()), store.desired()


def in_child(change: Change, state: Path, incoming: Path, fault: str) -> int:
    """Runs ``change`` in a process of its own; its wait status."""
    pid = os.fork()
    if not pid:
        try:
            faults.arm(fault)
            change(state, incoming)
        finally:
            os._exit(0)
    return os.waitpid(pid, 0)[1]


def points_of(change: Change, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    state, incoming = prepare(tmp_path / "dry")
    capfd.readouterr()
    assert in_child(change, state, incoming, "*=print") == 0
    passed = [line for line in capfd.readouterr().err.splitlines() if line.startswith("store.") and " " not in line]
    return [f"{name}@{passed[: i + 1].count(name)}" for i, name in enumerate(passed)]


def check_whole(state: Path) -> None:
    """After a sweep everything stored is what its name says and nothing half-written is left."""
    store = Store(state)
    store.sweep()
    for path in (state / "store/blobs/sha256").iterdir():
        assert manifest.digest_of(path.read_bytes()) == "sha256:" + path.name
    for model in store.versions():
        for file in model.spec.files:
            assert (Path(model.folder) / file.path).stat().st_size
    assert not [path for path in state.rglob("*") if durable.is_temp(path.name)]


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_kill_at_every_point_leaves_old_or_new(
    change: Change, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    points = points_of(change, tmp_path, capfd)
    assert len(points) >= 3
    seen = set()
    for number, point in enumerate(points):
        state, incoming = prepare(tmp_path / str(number))
        old = snapshot(state)
        assert os.WTERMSIG(in_child(change, state, incoming, point.replace("@", "=kill@"))) == 9, point
        after = snapshot(state)
        check_whole(state)
        change(state, incoming)
        new = snapshot(state)
        check_whole(state)
        assert after in (old, new), point
        seen.add(after == new)
    if change in (add, add_by_copy, remove, desire):
        assert seen == {True, False}  # some points are before the commit, some after


@pytest.mark.parametrize("change", [add, add_by_copy, remove, desire], ids=lambda c: c.__name__)
def test_a_full_disk_at_every_point_is_refused_or_got_around(
    change: Change, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, point in enumerate(points_of(change, tmp_path, capfd)):
        state, incoming = prepare(tmp_path / str(number))
        (state / "state/ballast").unlink()  # so that the way around is only there where it is tested
        before = snapshot(state)
        (state / "state/ballast").unlink()
        faults.arm("store.ballast=enospc," + point.replace("@", "=enospc@"))
        refused = False
        said = ""
        try:
            change(state, incoming)
        except ResourceExhausted as error:
            refused, said = True, f"{error.reason}: {error.message}"
        faults.arm("")
        assert not refused or re.search(r"DISK_FULL: .* \d+ bytes are needed, \d+ are free", said), point
        after = snapshot(state)
        check_whole(state)
        change(state, incoming)
        new = snapshot(state)
        assert after in (before, new), point
        # What comes after the commit (second copy, sweep) may fail without failing the change.
        assert refused or after == new, point


@pytest.mark.parametrize("change", [remove, desire], ids=lambda c: c.__name__)
def test_the_ballast_lets_a_full_disk_be_emptied(change: Change, tmp_path: Path) -> None:
    state, incoming = prepare(tmp_path)
    before = snapshot(state)
    faults.arm("store.index.write=enospc@1,store.desired.write=enospc@1")
    change(state, incoming)
    faults.arm("")
    assert snapshot(state) != before


def test_the_same_store_object_serves_on_after_a_failed_change(tmp_path: Path) -> None:
    state, incoming = prepare(tmp_path)
    store = Store(state)
    before = (store.versions(), store.desired())
    for point in ("store.blob.copy", "store.view.build", "store.index.write"):
        faults.arm(f"{point}=enospc")
        with pytest.raises(ResourceExhausted):
            store.add(incoming)  # by copy: the folder must last
    faults.arm("store.index.folder=enospc")  # after the rename: the new index is there
    with pytest.raises(ResourceExhausted):
        store.add(incoming)
    assert [m.version for m in store.versions()] == ["1.0.0", "1.1.0", "2.0.0"]
    faults.arm("")
    assert store.add(incoming).version == "2.0.0"
    faults.arm("store.index.folder=enospc")
    (state / "state/ballast").unlink()
    with pytest.raises(ResourceExhausted):
        store.remove("press", "2.0.0")
    assert (store.versions(), store.desired()) == before


def test_too_little_room_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, incoming = prepare(tmp_path)
    before = {p.name for p in (state / "store/blobs/sha256").iterdir()}
    store = Store(state)
    monkeypatch.setattr(disk, "free_bytes", lambda _folder: 1000)
    with pytest.raises(ResourceExhausted, match="1000 are free") as caught:
        store.add(incoming)
    assert caught.value.reason == "DISK_FULL"
    assert {p.name for p in (state / "store/blobs/sha256").iterdir()} == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid():
        pytest.skip("mounting a small tmpfs needs root")
    mounted = tmp_path / "disk"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mounted)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_really_full_disk(small_disk: Path, tmp_path: Path) -> None:
    state = small_disk / "state"
    store = Store(state)
    store.add(folders.make(tmp_path / "a"))
    large = folders.make(tmp_path / "b", folders.onnx_toml("2.0.0"), **{"model.onnx": os.urandom(3_000_000)})
    with pytest.raises(ResourceExhausted, match=r"3\d{6} bytes are needed, \d+ are free"):
        store.add(large)

    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        _fill(filler)
    with pytest.raises(ResourceExhausted):
        store.add(folders.make(tmp_path / "c", folders.onnx_toml("1.1.0")))
    assert [m.version for m in Store(state).versions()] == ["1.0.0"]

    store.remove("press", "1.0.0")
    filler.unlink()
    assert Store(state).versions() == ()
    assert store.add(folders.make(tmp_path / "d")).version == "1.0.0"
