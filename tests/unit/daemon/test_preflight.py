import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.config import Config, PathsConfig, ServerConfig
from appliance.daemon import preflight
from appliance.errors import FailedPrecondition


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ia-") as name:
        yield Path(name)


def config(folder: Path, **server: str) -> Config:
    paths = PathsConfig(state=str(folder / "state"), runtime=str(folder / "run"))
    return Config(paths=paths, server=ServerConfig(**{"address": "127.0.0.1:0", **server}))


def refused(wanted: Config) -> str:
    with pytest.raises(FailedPrecondition) as caught:
        preflight.prepare(wanted)
    return caught.value.message


def test_folders_are_made_and_stale_engine_sockets_removed(folder: Path) -> None:
    stale = folder / "run" / "engines" / "1.sock"
    stale.parent.mkdir(parents=True)
    stale.touch()
    with preflight.prepare(config(folder)):
        assert not stale.exists()
        assert stale.parent.stat().st_mode & 0o777 == 0o700


def test_two_on_one_state_folder(folder: Path) -> None:
    with preflight.prepare(config(folder)):
        assert "is in use by the process with pid" in refused(config(folder))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_port_in_use(folder: Path, family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as other:
        # As our own front-ends do: without a look, a second daemon would share the port.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((host, 0))
        other.listen()
        name = f"[{host}]" if ":" in host else host
        address = f"{name}:{other.getsockname()[1]}"
        assert f"cannot listen on {address}: Address already in use" in refused(config(folder, address=address))
    with preflight.prepare(config(folder, address=address)):
        pass


def test_a_stale_socket_is_removed(folder: Path) -> None:
    path = folder / "run" / "appliance.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with preflight.prepare(config(folder)):
        assert not path.exists()


def test_a_socket_that_somebody_listens_on_is_left_alone(folder: Path) -> None:
    path = folder / "run" / "appliance.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "another program listens on" in refused(config(folder))
        assert path.exists()


def test_a_file_in_the_socket_s_place_is_left_alone(folder: Path) -> None:
    path = folder / "run" / "appliance.sock"
    path.parent.mkdir()
    path.write_text("precious")
    assert "is not a socket: move it away" in refused(config(folder))
    assert path.read_text() == "precious"


def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    (folder / "state").write_text("in the way")
    assert f"cannot use the folder {folder / 'state'}" in refused(config(folder))


def test_a_runtime_path_too_long_for_sockets(folder: Path) -> None:
    paths = PathsConfig(state=str(folder / "state"), runtime=str(folder / ("x" * 100)))
    assert "too long for unix sockets" in refused(Config(paths=paths, server=ServerConfig(address="127.0.0.1:0")))


def test_a_refusal_gives_the_lock_back(folder: Path) -> None:
    path = folder / "run" / "appliance.sock"
    path.parent.mkdir()
    path.touch()
    refused(config(folder))
    path.unlink()
    with preflight.prepare(config(folder)):
        pass
