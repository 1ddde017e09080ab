"""The state folder's disk fills up: adds are refused with numbers, models are served on, and there is a way out."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from daemon_process import Daemon
from running import activate, add, deactivate, is_root, running, versions
from traffic import call

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc

FakeFolder = Callable[..., Path]
DISK_MIB = 100  # the daemon keeps 64 of it free
MIB = 2**20


@pytest.fixture
def box(short_path: Path) -> Iterator[Daemon]:
    """A daemon whose state folder is a small disk of its own."""
    if not is_root():
        pytest.skip("only root can mount a small disk")
    state = short_path / "state"
    state.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", state], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount a small disk")
    try:
        with running(short_path) as daemon:
            yield daemon
    finally:
        subprocess.run(["umount", "-l", state], check=True)


def fill(box: Daemon) -> Path:
    """Takes the disk's last byte; the file that does it."""
    filler = box.state / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(MIB))
        except OSError:
            assert shutil.disk_usage(box.state).free == 0
    return filler


def big_folder(fake_folder: FakeFolder, name: str, mib: int, version: str = "1.0.0") -> Path:
    folder = fake_folder(name, version, more_toml='[[files]]\npath = "big.bin"\nrole = "doc"\n')
    (folder / "big.bin").write_bytes(version[:1].encode() * mib * MIB)
    return folder


def test_an_add_that_cannot_fit_is_refused_before_it_is_sent(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("serving"))
    done = box.cli("models", "add", str(big_folder(fake_folder, "big", 50)), check=False)
    assert done.returncode == 5, done.stderr
    said = " ".join(done.stderr.split())
    numbers = re.search(r"the folder has (\d+) bytes, the daemon's disk has (\d+) free, of which \d+ are kept", said)
    assert numbers, said
    assert int(numbers[1]) > 50 * MIB
    assert int(numbers[2]) == pytest.approx(DISK_MIB * MIB, rel=0.05)
    assert list((box.state / "incoming").iterdir()) == []
    assert call(box.address, "serving").as_numpy("out_x")[0] == 1.0
    add(box, big_folder(fake_folder, "fits", 20))
    assert versions(box, "fits") == {"1.0.0": ("ready", True)}


def test_the_disk_fills_up_while_an_add_is_sent(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("serving"))

    def parts() -> Iterator[admin_pb2.AddModelRequest]:
        request = admin_pb2.AddModelRequest
        yield request(begin=request.Begin(total_bytes=20 * MIB))
        yield request(file=request.FileBegin(path="model.json", size_bytes=20 * MIB))
        box.eventually(lambda: any((box.state / "incoming").glob("*/model.json")))
        fill(box)
        for _ in range(20):
            yield request(chunk=bytes(MIB))

    with box.channel() as channel, pytest.raises(grpc.RpcError, match="disk is full") as caught:
        list(admin_pb2_grpc.AdminStub(channel).AddModel(parts(), timeout=60))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(box.address, "serving").as_numpy("out_x")[0] == 1.0
    (box.state / "filler").unlink()
    assert list((box.state / "incoming").iterdir()) == []
    add(box, fake_folder("afterwards"))
    assert versions(box, "afterwards") == {"1.0.0": ("ready", True)}


def test_the_way_out_of_a_full_disk(box: Daemon, fake_folder: FakeFolder) -> None:
    """Unloading and removing write a little themselves."""
    add(box, big_folder(fake_folder, "heavy", 20))
    add(box, fake_folder("light", "1.0.0", constant=10))
    add(box, fake_folder("light", "2.0.0", constant=20))
    fill(box)
    with pytest.raises(grpc.RpcError, match="free") as caught:
        add(box, fake_folder("late"))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    activate(box, "light", "1.0.0")
    assert call(box.address, "light").as_numpy("out_x")[0] == 11.0
    deactivate(box, "heavy")
    box.cli("models", "remove", "heavy", "1.0.0", "--yes")
    assert shutil.disk_usage(box.state).free >= 19 * MIB
    assert box.stop() == 0


def test_a_daemon_starts_on_a_full_disk(box: Daemon, short_path: Path, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("serving"))
    assert box.stop() == 0
    (box.state / "state" / "ballast").unlink()
    fill(box)
    with running(short_path) as again:
        again.eventually(lambda: versions(again, "serving") == {"1.0.0": ("ready", True)})
        assert call(again.address, "serving").as_numpy("out_x")[0] == 1.0
