"""kill -9 of the supervisor: no process outlives it, and the next daemon starts at once where it was."""

from collections.abc import Callable
from pathlib import Path

from daemon_process import Daemon
from running import activate, add, alive, deactivate, free_port, pids, running, settled, versions
from traffic import Traffic, call

FakeFolder = Callable[..., Path]


def test_no_orphan_and_the_same_models_again(short_path: Path, fake_folder: FakeFolder) -> None:
    config = f'[server]\naddress = "127.0.0.1:{free_port()}"\n'
    with running(short_path, config=config) as box:
        fill(box, fake_folder)
        children = pids(box)[1:]
        assert len(children) >= 5  # a front-end, the sync process, three engines
        before = box.status()
        with Traffic(box.address, "two"):
            box.process.kill()
        box.process.wait(10)
        # At once: the old children may still be on their way out.
        with running(short_path, config=config) as again:
            again.eventually(lambda: not any(alive(pid) for pid in children), 5)
            again.eventually(lambda: settled(again))
            check(again)
            assert [m.digest for m in again.status().models] == [m.digest for m in before.models]


def fill(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("two", "1.0.0", constant=10))
    add(box, fake_folder("two", "2.0.0", constant=20), keep_previous=True)
    add(box, fake_folder("one", "1.0.0", constant=30))
    add(box, fake_folder("one", "1.1.0", constant=40), no_activate=True)
    add(box, fake_folder("off"))
    deactivate(box, "off")
    check(box)


def check(box: Daemon) -> None:
    assert versions(box, "two") == {"1.0.0": ("ready", False), "2.0.0": ("ready", True)}
    assert versions(box, "one") == {"1.0.0": ("ready", True), "1.1.0": ("stored", False)}
    assert versions(box, "off") == {"1.0.0": ("stored", False)}
    assert call(box.address, "two").as_numpy("out_x")[0] == 21.0
    assert call(box.address, "two", version="1.0.0").as_numpy("out_x")[0] == 11.0
    assert call(box.address, "one").as_numpy("out_x")[0] == 31.0


def test_state_survives_an_orderly_restart(short_path: Path, fake_folder: FakeFolder) -> None:
    with running(short_path) as box:
        fill(box, fake_folder)
        activate(box, "one", "1.1.0")
        activate(box, "one", "1.0.0")
        assert box.stop() == 0
    with running(short_path) as again:
        assert versions(again, "two")  # known from the first answer on: no client is told NOT_FOUND
        again.eventually(lambda: settled(again))
        check(again)
