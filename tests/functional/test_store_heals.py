"""A byte flips in a stored file of a released model: it is named, fetched back from the registry, and the model loads again."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_process import Daemon
from docker_registry import docker_registry, required
from headquarters import Headquarters, box_config
from running import running, versions
from traffic import Traffic, call

FakeFolder = Callable[..., Path]
DAMAGED = 10


def release(folder: Path, url: str, model: Path) -> Path:
    """Headquarters from nothing to a release; its root of trust."""
    made = Headquarters(folder, "" if url.startswith("layout:") else url, "press")
    made.release(model, "1.0.0")
    return made.root


def outcome(box: Daemon, *arguments: str, code: int = 0) -> Any:
    done = box.cli("store", *arguments, "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def flip(box: Daemon, file: str = "model.json") -> Path:
    """One bit of the blob that a view shows under this name: there is no other copy on this disk."""
    path = next((box.state / "models/press").iterdir()) / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)
    return path


def runs(box: Daemon) -> Callable[[], bool]:
    return lambda: versions(box, "press").get("1.0.0") == ("ready", True)


def heals(short_path: Path, config: str, root: Path) -> None:
    with running(short_path, config=config) as box:
        box.cli("registry", "trust", str(root), "--yes")
        box.eventually(runs(box))
        flip(box)
        (problem,) = outcome(box, "check", code=DAMAGED)["problems"]
        assert (problem["kind"], problem["models"], problem["file"]) == ("blob-rotten", ["press:1.0.0"], "model.json")
        with Traffic(box.address, "press") as traffic:
            report = outcome(box, "repair")
            traffic.more(3)
        assert traffic.errors == []
        assert report["sound"]
        assert ["fetched again" in healed["todo"] for healed in report["healed"]].count(True) == 1
        assert outcome(box, "check")["sound"]
        # It is as it was: it loads from the disk again.
        box.process.send_signal(signal.SIGTERM)
        assert box.process.wait(30) == 0
    with running(short_path, config=config) as box:
        box.eventually(runs(box))
        assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]
        assert outcome(box, "check")["sound"]


def test_from_a_registry_in_a_folder(short_path: Path, tmp_path: Path, fake_folder: FakeFolder) -> None:
    url = f"layout:{tmp_path}/registry"
    root = release(tmp_path, url, fake_folder("press", constant=10))
    heals(short_path, box_config(url), root)


def test_from_a_real_registry(short_path: Path, tmp_path: Path, fake_folder: FakeFolder) -> None:
    required("docker-registry")
    with docker_registry(tmp_path / "distribution") as registry:
        root = release(tmp_path, registry.url, fake_folder("press", constant=10))
        heals(short_path, box_config(registry.url), root)


@pytest.mark.parametrize("why", ["the registry is away", "it is released nowhere"])
def test_what_cannot_be_fetched_is_told(short_path: Path, tmp_path: Path, fake_folder: FakeFolder, why: str) -> None:
    url = f"layout:{tmp_path}/registry"
    root = release(tmp_path, url, fake_folder("press", constant=10))
    with running(short_path, config=box_config(url)) as box:
        if why == "it is released nowhere":
            box.add(tmp_path / "press-1.0.0")
        else:
            box.cli("registry", "trust", str(root), "--yes")
            box.eventually(runs(box))
            box.cli("sync", "pause")
            (tmp_path / "registry").rename(tmp_path / "away")
        flip(box)
        pid = box.process_of("sync")
        (problem,) = outcome(box, "repair", code=DAMAGED)["problems"]
        expected = "nothing of press is released" if why == "it is released nowhere" else "could not be fetched"
        assert expected in problem["todo"]
        assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]  # it serves on
        assert box.process_of("sync") == pid
        if why == "the registry is away":
            (tmp_path / "away").rename(tmp_path / "registry")
            assert outcome(box, "repair")["sound"]
