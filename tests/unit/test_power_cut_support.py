"""The played disk itself: what it keeps and what it loses, so that tests which pass on it mean something."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.osutil import durable
from tests.support.power_cut import CUT, Cut, Disk


def after_cut(tmp_path: Path, how: Cut, change: Callable[[Path], None]) -> dict[str, bytes]:
    """What a disk holds when its power fails behind ``change``, by path."""
    root = tmp_path / "disk"
    root.mkdir()
    (root / "old").write_bytes(b"old")
    (root / "folder").mkdir()
    child = os.fork()
    if child == 0:
        try:
            disk = Disk(root)
            disk.watch()
            change(root)
            disk.cut(how, tmp_path / "left")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == CUT
    left = tmp_path / "left"
    return {str(path.relative_to(left)): path.read_bytes() for path in left.rglob("*") if path.is_file()}


def write(path: Path, data: bytes, *, sync: bool) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


@pytest.mark.parametrize(
    ("how", "sync_file", "sync_folder", "left"),
    [
        (Cut.LOSES, False, False, None),
        (Cut.LOSES, True, False, None),
        (Cut.LOSES, False, True, b"\0\0\0"),
        (Cut.LOSES, True, True, b"new"),
        (Cut.KEEPS, False, False, b"\0\0\0"),
        (Cut.KEEPS, True, False, b"new"),
    ],
)
def test_a_new_file(tmp_path: Path, how: Cut, sync_file: bool, sync_folder: bool, left: bytes | None) -> None:
    def change(root: Path) -> None:
        write(root / "new", b"new", sync=sync_file)
        if sync_folder:
            durable.sync_folder(root)

    found = after_cut(tmp_path, how, change)
    assert found.get("new") == left
    assert found["old"] == b"old"


@pytest.mark.parametrize("how", Cut)
def test_what_was_written_durably_is_there(tmp_path: Path, how: Cut) -> None:
    def change(root: Path) -> None:
        durable.write(root / "old", b"newer")
        durable.mkdir(root / "a/b")
        durable.write(root / "a/b/c", b"deep")

    assert after_cut(tmp_path, how, change) == {"old": b"newer", "a/b/c": b"deep"}


def test_a_rename_and_a_removal_that_were_not_synced_have_not_been(tmp_path: Path) -> None:
    def change(root: Path) -> None:
        write(root / "temp", b"new", sync=True)
        (root / "temp").replace(root / "old")
        (root / "folder").rmdir()

    assert after_cut(tmp_path, Cut.LOSES, change) == {"old": b"old"}
    assert (tmp_path / "left/folder").is_dir()


def test_a_hard_link_stays_one(tmp_path: Path) -> None:
    def change(root: Path) -> None:
        os.link(root / "old", root / "again")
        durable.sync_folder(root)

    assert after_cut(tmp_path, Cut.LOSES, change) == {"old": b"old", "again": b"old"}
    assert (tmp_path / "left/old").samefile(tmp_path / "left/again")
