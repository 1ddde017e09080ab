"""Opening what clients call shared memory: keys, owners, files that change behind our back."""

import os
import socket
from pathlib import Path

import pytest
from shared_files import SharedFile, shared_file

from appliance.errors import ApplianceError, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from appliance.worker import regions
from appliance.worker.regions import identity_of, open_region


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "//x",
        ".",
        "..",
        "/..",
        "/../etc/passwd",
        "/a/b",
        "a/b",
        "/nul\0",
        "/" + "x" * 256,
        "/" + "é" * 128,
    ],
)
def test_what_is_no_key(key: str) -> None:
    with pytest.raises(InvalidArgument, match="key of shared memory"):
        open_region(key)


def test_a_key_with_and_without_a_slash() -> None:
    with shared_file(b"abc") as file:
        for key in (file.key, file.key[1:]):
            fd = open_region(key)
            assert identity_of(fd) == identity_of(file.fd)
            assert not os.get_inheritable(fd)
            os.close(fd)


def test_a_key_that_nobody_made() -> None:
    with pytest.raises(NotFound, match="no shared memory with the key '/nobody-made-this'"):
        open_region("/nobody-made-this")


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "socket"])
def test_what_is_no_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "FOLDER", str(tmp_path))
    path = tmp_path / "it"
    if kind == "link":
        (tmp_path / "target").write_bytes(b"secret")
        path.symlink_to(tmp_path / "target")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))
    with pytest.raises(InvalidArgument, match="'/it' is not one of shared memory"):
        open_region("/it")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_file_of_another_group() -> None:
    with shared_file(b"abc") as file:
        os.fchown(file.fd, -1, 54_321)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(PermissionDenied, match="let its file belong to one of its groups"):
            open_region(file.key)
        assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("unlinked", [False, True])
def test_a_region_is_the_file_that_was_registered(unlinked: bool) -> None:
    with shared_file(b"abc") as file, shared_file(b"other") as other:
        entry = file.entry()
        if unlinked:
            file.unlink()
            wanted: type[ApplianceError] = NotFound
        else:
            os.rename(other.path, file.path)
            wanted = FailedPrecondition
        with pytest.raises(wanted):
            regions.SharedRegion(1, entry)


def test_the_descriptor_goes_with_the_last_user() -> None:
    with shared_file(b"abc") as file:
        before = len(os.listdir("/proc/self/fd"))
        region = file.region()
        also = region
        del region
        assert len(os.listdir("/proc/self/fd")) == before + 1
        del also
        assert len(os.listdir("/proc/self/fd")) == before


def made(file: SharedFile) -> regions.SharedRegion:
    """Bytes 100 to 300 of the file."""
    return file.region(name="images", offset=100, nbytes=200)


@pytest.mark.parametrize(("offset", "nbytes", "at"), [(0, 200, 100), (199, 1, 299), (0, 1, 100)])
def test_places_within(offset: int, nbytes: int, at: int) -> None:
    with shared_file(bytes(1000)) as file:
        assert made(file).file_offset("input 'x'", offset, nbytes) == at


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 201), (200, 1), (1, 200), (2**62, 1), (2**63 - 1, 2**63 - 1)])
def test_places_outside(offset: int, nbytes: int) -> None:
    with shared_file(bytes(1000)) as file, pytest.raises(InvalidArgument, match=r"'x'.*'images', which has 200 bytes"):
        made(file).file_offset("input 'x'", offset, nbytes)


def test_a_region_that_shrank_is_good_as_far_as_it_goes() -> None:
    with shared_file(bytes(1000)) as file:
        region = made(file)
        file.unlink()  # a name that is gone means nothing
        file.shrink(200)
        assert region.file_offset("input 'x'", 0, 100) == 100
        with pytest.raises(FailedPrecondition, match=r"input 'x'.*'images', which has shrunk"):
            region.file_offset("input 'x'", 0, 101)
