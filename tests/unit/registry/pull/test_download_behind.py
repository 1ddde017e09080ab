"""What a download leaves to other threads: its syncs fail, take their time, and never outlive the file that they are for."""

import errno
import os
import threading
from pathlib import Path

import pytest
from flaky_source import Turn

from appliance.osutil import faults
from appliance.registry.pull import download
from appliance.registry.sources.failures import Unreachable
from tests.unit.registry.pull.test_download import BLOB, Box

DEADLINE = 10
PIECE = 50_000


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """One that syncs every second piece."""
    monkeypatch.setattr(download, "_SYNC_BYTES", 2 * PIECE)
    monkeypatch.setattr(download.limits, "pull_read_bytes", PIECE)
    return Box(tmp_path)


@pytest.mark.parametrize("action", ["enospc", "eio"])
@pytest.mark.parametrize("nth", [1, 3, 6])
def test_a_sync_that_fails_meanwhile_is_the_downloads_failure(box: Box, action: str, nth: int) -> None:
    """The kernel tells of a write-back that failed once: the last sync would say that all is well."""
    faults.arm(f"pull.behind={action}@{nth}")
    try:
        with pytest.raises(OSError, match=r"pull\.behind"):
            box.run()
    finally:
        faults.arm("")
    assert not box.holds()
    # The pages are still in memory, and would be taken for what the disk has.
    assert box.left == []
    box.run()
    assert box.offsets == [0, 0]
    assert box.holds()


def test_it_is_not_lost_behind_a_line_that_breaks_as_well(box: Box) -> None:
    faults.arm("pull.behind=eio@3")
    box.turns(Turn(cut=6 * PIECE))
    try:
        with pytest.raises((Unreachable, OSError)):
            box.run()
    finally:
        faults.arm("")
    assert box.left == []
    box.run()
    assert box.offsets == [0, 0]
    assert box.holds()


def test_the_last_sync_is_no_other(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".partial"):
            raise OSError(errno.EIO, "a bad block")
        real(fd)

    real = os.fsync
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="bad block"):
        box.run()
    assert not box.holds()
    assert box.left == []


def test_the_line_is_read_on_while_the_disk_syncs(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    further = threading.Event()
    box_count = box._count

    def count(more: int) -> None:
        box_count(more)
        if box.came >= 4 * PIECE:
            further.set()

    waited = []
    monkeypatch.setattr(box, "_count", count)
    monkeypatch.setattr(os, "fdatasync", lambda _fd: waited.append(further.wait(DEADLINE)))
    box.run()
    assert waited == [True] * 6
    assert box.holds()


def test_a_download_that_fails_closes_its_file_behind_its_last_sync(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = threading.Event()
    synced: list[str] = []

    def fdatasync(fd: int) -> None:
        assert broken.wait(DEADLINE)
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    read = box.source.blob

    def blob(*args: object, **options: object) -> object:
        stream = read(*args, **options)  # type: ignore[arg-type]
        one = stream.read

        def until_it_breaks(size: int) -> bytes:
            try:
                return one(size)
            except Unreachable:
                threading.Timer(0.02, broken.set).start()
                raise

        stream.read = until_it_breaks  # type: ignore[method-assign]
        return stream

    monkeypatch.setattr(box.source, "blob", blob)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    box.turns(Turn(cut=3 * PIECE))
    with pytest.raises(Unreachable):
        box.run()
    assert synced == [str(box.partial / f"{BLOB.hex}.partial")]
