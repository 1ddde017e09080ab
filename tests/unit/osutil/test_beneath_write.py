"""A small file written into somebody else's folder: through no link, whole or not at all."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.osutil import beneath_write, faults

POINTS = ("folder", "write", "fsync", "rename", "sync_folder")


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def test_it_makes_the_folder_and_replaces_the_file(tmp_path: Path) -> None:
    path = beneath_write.write(tmp_path, "return", "a.json", b"first, and longer")
    assert path == tmp_path / "return/a.json"
    beneath_write.write(tmp_path, "return", "a.json", b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["a.json"]


def test_the_root_may_be_a_link_and_the_folder_may_not(tmp_path: Path) -> None:
    (tmp_path / "stick").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "stick")
    beneath_write.write(tmp_path / "link", "return", "a.json", b"data")
    assert (tmp_path / "stick/return/a.json").read_bytes() == b"data"
    (tmp_path / "stick/other").symlink_to(tmp_path / "outside")
    with pytest.raises(NotADirectoryError):
        beneath_write.write(tmp_path / "link", "other", "a.json", b"data")
    assert os.listdir(tmp_path / "outside") == []


@pytest.mark.parametrize("name", ["a.json", ".a.json.tmp"])
@pytest.mark.parametrize("dangling", [True, False])
def test_a_link_in_the_place_of_the_file_is_replaced(tmp_path: Path, name: str, dangling: bool) -> None:
    (tmp_path / "return").mkdir()
    if not dangling:
        (tmp_path / "secret").write_bytes(b"keep")
    (tmp_path / "return" / name).symlink_to(tmp_path / "secret")
    beneath_write.write(tmp_path, "return", "a.json", b"data")
    assert (tmp_path / "return/a.json").read_bytes() == b"data"
    assert not (tmp_path / "return/a.json").is_symlink()
    assert (tmp_path / "secret").exists() is not dangling
    assert dangling or (tmp_path / "secret").read_bytes() == b"keep"


@pytest.mark.parametrize("name", ["a.json", ".a.json.tmp"])
def test_a_pipe_doesnt_hang_and_a_folder_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "return").mkdir()
    os.mkfifo(tmp_path / "return" / name)
    beneath_write.write(tmp_path, "return", "a.json", b"data")
    assert (tmp_path / "return/a.json").read_bytes() == b"data"
    (tmp_path / "return/a.json").unlink()
    (tmp_path / "return" / name).mkdir()
    with pytest.raises(IsADirectoryError):
        beneath_write.write(tmp_path, "return", "a.json", b"data")


@pytest.mark.parametrize("what", ["file", "fifo"])
def test_a_folder_that_is_none(tmp_path: Path, what: str) -> None:
    (tmp_path / "return").write_bytes(b"") if what == "file" else os.mkfifo(tmp_path / "return")
    with pytest.raises(NotADirectoryError):
        beneath_write.write(tmp_path, "return", "a.json", b"data")


@pytest.mark.parametrize("point", POINTS)
def test_a_disk_that_fails_at_any_step_leaves_old_or_new(tmp_path: Path, point: str) -> None:
    beneath_write.write(tmp_path, "return", "a.json", b"old")
    faults.arm(f"p.{point}=enospc")
    with pytest.raises(OSError, match="No space left"):
        beneath_write.write(tmp_path, "return", "a.json", b"new", point="p")
    assert os.listdir(tmp_path / "return") == ["a.json"]
    assert (tmp_path / "return/a.json").read_bytes() == (b"new" if point == "sync_folder" else b"old")
    faults.arm("")
    beneath_write.write(tmp_path, "return", "a.json", b"new", point="p")
    assert (tmp_path / "return/a.json").read_bytes() == b"new"
