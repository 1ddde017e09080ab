"""Durable writes and what is set aside."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.osutil import durable, faults


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def test_a_write_replaces_the_whole_file_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    durable.write(path, b"a long first text")
    durable.write(path, b"short", mode=0o640)
    assert path.read_bytes() == b"short"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["f"]


def test_a_write_does_not_go_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"keep")
    (tmp_path / "f").symlink_to(tmp_path / "real")
    durable.write(tmp_path / "f", b"new")
    assert (tmp_path / "real").read_bytes() == b"keep"
    assert not (tmp_path / "f").is_symlink()


@pytest.mark.parametrize("point", ["write", "fsync", "rename"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, point: str) -> None:
    path = tmp_path / "f"
    durable.write(path, b"old")
    faults.arm(f"p.{point}=enospc")
    with pytest.raises(OSError, match="No space left"):
        durable.write(path, b"new", point="p")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_left_over_of_a_crash_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "f"
    durable.temp_beside(path).write_bytes(b"half")
    durable.write(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert durable.is_temp(durable.temp_beside(path).name)
    assert not durable.is_temp("f.tmp")


def test_every_write_and_rename_syncs_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    durable.write(tmp_path / "f", b"x")
    assert synced[-1] == str(tmp_path)
    assert len(synced) == 2
    synced.clear()
    durable.mkdir(tmp_path / "a/b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
    synced.clear()
    durable.rename(tmp_path / "f", tmp_path / "a/b/g")
    assert synced == [str(tmp_path / "a/b"), str(tmp_path)]


def test_mkdir_twice_is_fine_and_over_a_file_is_not(tmp_path: Path) -> None:
    durable.mkdir(tmp_path / "a/b/c")
    durable.mkdir(tmp_path / "a/b/c")
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(FileExistsError):
        durable.mkdir(tmp_path / "f")


def test_set_aside_numbers_what_is_taken(tmp_path: Path) -> None:
    names = []
    for text in ("one", "two", "three"):
        (tmp_path / "f").write_text(text)
        names.append(durable.set_aside(tmp_path / "f").name)
    assert names == ["f.broken", "f.broken.1", "f.broken.2"]
    assert (tmp_path / "f.broken").read_text() == "one"
    (tmp_path / "d").mkdir()
    assert durable.set_aside(tmp_path / "d").is_dir()


@pytest.mark.parametrize(
    ("kept", "mode", "refused"),
    [(0o755, 0o644, False), (0o700, 0o600, False), (0o755, 0o600, True), (0o777, 0o644, True), (0o600, 0o644, False)],
)
def test_a_file_system_without_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int, mode: int, refused: bool
) -> None:
    """As FAT and exFAT do: every file has the mode of the mount, and chmod is refused."""
    real = os.fchmod

    def fchmod(fd: int, _mode: int) -> None:
        real(fd, kept)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", fchmod)
    if refused:
        with pytest.raises(PermissionError):
            durable.write(tmp_path / "f", b"data", mode=mode)
        assert os.listdir(tmp_path) == []
    else:
        durable.write(tmp_path / "f", b"data", mode=mode)
        assert (tmp_path / "f").read_bytes() == b"data"
