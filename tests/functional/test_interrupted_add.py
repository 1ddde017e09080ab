"""An add that is cut off at any moment leaves the old state or the new one, and nothing in `incoming`."""

import os
import queue
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from daemon_process import APPLIANCE, DEADLINE, Daemon
from running import add, running, settled, versions
from traffic import call

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc

FakeFolder = Callable[..., Path]
BIG = 512 * 2**20

# In the order in which an add passes them; the sync process dies there each time that it comes by.
KILLS = (
    "store.blob.link",
    "store.view.rename",
    "store.index.rename",
    "store.index.folder",
    "store.desired.rename",
    "store.desired.folder",
)


def incoming(box: Daemon) -> list[Path]:
    return list((box.state / "incoming").iterdir())


class Slow:
    """An add whose client has sent a part and then says nothing more."""

    def __init__(self, box: Daemon) -> None:
        self._parts: queue.SimpleQueue[admin_pb2.AddModelRequest | None] = queue.SimpleQueue()
        request = admin_pb2.AddModelRequest
        self._parts.put(request(begin=request.Begin(total_bytes=2**20)))
        self._parts.put(request(file=request.FileBegin(path="model.json", size_bytes=2**20)))
        self._parts.put(request(chunk=b"half of it" * 1000))
        self._channel = box.channel()
        self.call = admin_pb2_grpc.AdminStub(self._channel).AddModel(iter(self._parts.get, None), timeout=DEADLINE)
        box.eventually(lambda: any(sum(f.stat().st_size for f in u.rglob("*")) for u in incoming(box)))

    def fails(self) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            list(self.call)
        self._parts.put(None)
        self._channel.close()
        return caught.value.code()


def test_the_client_is_killed_in_the_middle_of_a_big_upload(daemon: Daemon, fake_folder: FakeFolder) -> None:
    folder = fake_folder("big", more_toml='[[files]]\npath = "big.bin"\nrole = "doc"\n')
    with (folder / "big.bin").open("wb") as big:
        big.truncate(BIG)  # a hole: it takes no room here
    command = [*APPLIANCE, "models", "add", str(folder), "--socket", str(daemon.socket)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as client:
        daemon.eventually(lambda: any((u / "big.bin").exists() for u in incoming(daemon)))
        client.kill()
    daemon.eventually(lambda: not incoming(daemon))
    assert versions(daemon, "big") == {}
    assert client.returncode == -signal.SIGKILL
    add(daemon, fake_folder("small"))
    assert versions(daemon, "small") == {"1.0.0": ("ready", True)}


def test_the_daemon_is_killed_in_the_middle_of_an_upload(short_path: Path, fake_folder: FakeFolder) -> None:
    with running(short_path) as box:
        slow = Slow(box)
        box.process.kill()
        assert slow.fails() is grpc.StatusCode.UNAVAILABLE
        box.process.wait(10)
        assert incoming(box)
    with running(short_path) as box:
        box.eventually(lambda: not incoming(box))
        add(box, fake_folder("small"))
        assert versions(box, "small") == {"1.0.0": ("ready", True)}


def test_the_front_end_is_killed_in_the_middle_of_an_upload(daemon: Daemon, fake_folder: FakeFolder) -> None:
    """The next upload takes away what is left of this one, so that it does not take its room."""
    slow = Slow(daemon)
    os.kill(daemon.process_of("front-end 0"), signal.SIGKILL)
    assert slow.fails() is grpc.StatusCode.UNAVAILABLE
    assert incoming(daemon)
    daemon.ready()
    add(daemon, fake_folder("small"))
    assert incoming(daemon) == []


def test_the_sync_process_leaves_uploads_alone_when_it_starts(daemon: Daemon) -> None:
    slow = Slow(daemon)
    sync = daemon.process_of("sync")
    os.kill(sync, signal.SIGKILL)
    daemon.eventually(lambda: daemon.process_of("sync") not in (0, sync))
    daemon.eventually(lambda: daemon.json("models", "list") == {"models": []})
    assert incoming(daemon)
    slow.call.cancel()
    assert slow.fails() is grpc.StatusCode.CANCELLED
    daemon.eventually(lambda: not incoming(daemon))


@pytest.fixture(scope="module")
def state_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of a daemon that serves version 1.0.0 of a model, to be copied."""
    with running() as box:
        folder = tmp_path_factory.mktemp("first") / "m"
        folder.mkdir()
        toml = 'name = "m"\nversion = "1.0.0"\nengine = "fake"\nfiles = [{ path = "model.json" }]\n'
        card = '[card]\nlicence = "MIT"\nsource = "a test"\nintended_use = "tests"\nlimits = "none"\n'
        (folder / "model.toml").write_text(toml + card)
        (folder / "model.json").write_text('{"constant": 10}')
        add(box, folder)
        assert box.stop() == 0
        yield box.state


@pytest.mark.parametrize("point", KILLS)
def test_the_sync_process_is_killed_in_an_add(
    short_path: Path, state_before: Path, fake_folder: FakeFolder, point: str
) -> None:
    shutil.copytree(state_before, short_path / "state", symlinks=True)
    new = fake_folder("m", "2.0.0", constant=20)
    with running(short_path, env={"APPLIANCE_FAULTS": f"{point}=kill"}) as box:
        box.eventually(lambda: settled(box))
        with pytest.raises(grpc.RpcError) as caught:
            add(box, new)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert value(box) == 11.0  # the old one serves on
        box.process.kill()
        box.process.wait(10)
    with running(short_path) as box:
        box.eventually(lambda: settled(box))
        assert value(box) in (11.0, 21.0)
        assert incoming(box) == []
        add(box, new)
        assert value(box) == 21.0
        assert versions(box, "m") == {"1.0.0": ("stored", False), "2.0.0": ("ready", True)}


def value(box: Daemon) -> float:
    return float(call(box.address, "m").as_numpy("out_x")[0])
