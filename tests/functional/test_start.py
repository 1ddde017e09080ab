"""What can be in the way of a start, and what a daemon that has nothing to do takes."""

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tritonclient.grpc as oip
from daemon_process import Daemon
from running import activate, add, deactivate, free_port, is_root, pids, running, serve_in_vain

NOBODY = 65534
IDLE_MIB_MAX = 150


@pytest.fixture(scope="module")
def box() -> Iterator[Daemon]:
    # One front-end, whatever the number of cores: the bound on memory is for that.
    with running(config="[server]\naddress = '127.0.0.1:0'\nfront_ends = 1\n") as daemon:
        yield daemon


def refused(folder: Path, *words: str, options: tuple[str, ...] = (), humble: bool = False) -> None:
    """A start that must fail, with a message that holds all the words and no traceback."""
    done = serve_in_vain(folder, *options, humble=humble)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_an_idle_daemon_is_small(box: Daemon) -> None:
    mib = {p.role: p.memory_bytes / 2**20 for p in box.status().processes}
    print(", ".join(f"{role} {size:.0f} MiB" for role, size in mib.items()), f"together {sum(mib.values()):.0f} MiB")
    assert len(mib) == len(pids(box)) >= 3
    assert sum(mib.values()) < IDLE_MIB_MAX


def test_it_is_ready_soon(short_path: Path) -> None:
    began = time.monotonic()
    with running(short_path) as box:
        print(f"ready after {time.monotonic() - began:.2f} s")
        assert box.status().ready
        box.eventually(lambda: any(re.search(r"ready after \d", line) for line in box.log))


# --- somebody is there already ---------------------------------------------------------------------------------------


def test_two_daemons_on_one_state_folder(box: Daemon, short_path: Path) -> None:
    other_runtime = ("--runtime-dir", str(short_path))
    refused(box.folder, f"in use by the process with pid {box.pid}", str(box.state), options=other_runtime)
    assert box.status().ready


def test_another_daemon_has_the_unix_socket(box: Daemon, short_path: Path) -> None:
    refused(box.folder, "another program listens on", options=("--state-dir", str(short_path / "state")))
    assert box.status().ready


def test_the_port_of_another_daemon(box: Daemon, short_path: Path) -> None:
    refused(short_path, box.address, "Address already in use", "server.address", options=("--address", box.address))


def test_the_port_of_another_program(short_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        refused(short_path, address, "Address already in use", options=("--address", address))


def test_an_address_of_another_machine(short_path: Path) -> None:
    address = f"192.0.2.1:{free_port()}"
    (short_path / "a.toml").write_text("[server]\ninsecure = true\n")
    options = ("--address", address, "--config", str(short_path / "a.toml"))
    refused(short_path, address, "Cannot assign requested address", options=options)


# --- something is there already --------------------------------------------------------------------------------------


def test_a_stale_socket_file_is_replaced(short_path: Path) -> None:
    (short_path / "run" / "engines").mkdir(parents=True)
    for name in ("appliance.sock", "engines/1.sock"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(short_path / "run" / name))
    with running(short_path) as box:
        assert box.status().ready
        assert list((short_path / "run" / "engines").iterdir()) == []


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_what_is_no_socket_stays(short_path: Path, make: Callable[[Path], None]) -> None:
    (short_path / "run").mkdir()
    thing = short_path / "run" / "appliance.sock"
    make(thing)
    refused(short_path, str(thing), "not a socket", "move it away")
    assert thing.exists()


@pytest.mark.skipif(not is_root(), reason="only root can make files that belong to somebody else")
@pytest.mark.parametrize("foreign", [".", "state", "state/lock", "state/store", "run"])
def test_a_folder_that_is_not_ours(short_path: Path, foreign: str) -> None:
    """The folder above, the state folder, the lock or the store that another user's daemon left, the runtime folder."""
    thing = short_path / foreign
    if foreign == "state/lock":
        thing.parent.mkdir()
        thing.touch()
    else:
        thing.mkdir(parents=True, exist_ok=True)
    thing.chmod(0o600 if thing.is_file() else 0o755)
    os.chown(thing, NOBODY, NOBODY)
    place = short_path / ("state" if foreign == "." else foreign)
    refused(short_path, "cannot use the", f"{place}: ", "make it writable for this user", humble=True)


def test_a_state_folder_that_is_a_file(short_path: Path) -> None:
    (short_path / "state").touch()
    refused(short_path, str(short_path / "state"), "File exists")


# --- required models -------------------------------------------------------------------------------------------------


def test_a_required_model_that_is_not_there(short_path: Path, fake_folder: Callable[..., Path]) -> None:
    with running(short_path, config='[models]\nrequired = ["wanted"]\n') as box:
        assert not box.status().ready
        assert box.cli("status", check=False).returncode == 5
        with oip.InferenceServerClient(box.address) as client:
            assert client.is_server_live()
            assert not client.is_server_ready()
            add(box, fake_folder("other"))
            assert not client.is_server_ready()
            add(box, fake_folder("wanted"))
            assert client.is_server_ready()
            assert box.cli("status").returncode == 0
            deactivate(box, "wanted")
            assert not client.is_server_ready()
            activate(box, "wanted")
            assert client.is_server_ready()
