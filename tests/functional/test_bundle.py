"""Machines without a network: releases go out on a stick, run by the same rules as from a registry, and status comes back."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import DEADLINE, Daemon
from docker_registry import docker_registry, required
from headquarters import Headquarters, box_config
from running import running, versions
from traffic import call

NAME = "org.opencontainers.image.ref.name"


def export(headquarters: Headquarters, stick: Path) -> Any:
    (prefix,) = headquarters("bundle", "export", str(stick))["prefixes"]
    return prefix


@pytest.fixture
def headquarters(tmp_path: Path) -> Headquarters:
    return Headquarters(tmp_path, "", "press")


@pytest.fixture
def box(headquarters: Headquarters) -> Iterator[Daemon]:
    with running(config=box_config("offline:")) as daemon:
        daemon.cli("registry", "trust", str(headquarters.root), "--yes")
        yield daemon


@pytest.fixture
def press(fake_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    def make(version: str, **script: Any) -> Path:
        return fake_folder("press", version, **script).rename(tmp_path / f"press-{version}")

    return make


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


def imported(box: Daemon, stick: Path, code: int = 0) -> Any:
    done = box.cli("bundle", "import", str(stick), "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_out_on_a_stick_and_back(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path], stick: Path
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    carried = export(headquarters, stick)
    assert [(r["line"], r["version"]) for r in carried["releases"]] == [("press", "1.0.0")]
    assert versions(box, "press") == {}
    visit = imported(box, stick)["visit"]
    assert [(line["line"], line["version"], line["state"]) for line in visit["lines"]] == [
        ("press", "1.0.0", "installed")
    ]
    assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]

    # The next one takes over; the status says so, and is believed once it is enrolled.
    headquarters.release(press("2.0.0", constant=20), "2.0.0")
    export(headquarters, stick)
    visit = imported(box, stick)["visit"]
    assert call(box.address, "press").as_numpy("out_x").tolist() == [21.0]
    assert Path(visit["returned"]).parent == stick / "return"
    older = Path(visit["returned"]).read_bytes()
    (new,) = headquarters("publish", "fleet", str(stick))["machines"]
    assert new["verdict"] == "new"
    (line,) = new["report"]["lines"]
    assert (line["active"], line["stored"], line["state"]) == ("2.0.0", ["1.0.0", "2.0.0"], "installed")
    imported(box, stick)
    (enrolled,) = headquarters("publish", "fleet", str(stick), "--enrol")["machines"]
    assert enrolled["verdict"] == "enrolled"
    assert enrolled["report"]["counter"] > new["report"]["counter"]
    Path(visit["returned"]).write_bytes(older)
    (replayed,) = headquarters("publish", "fleet", str(stick), code=7)["machines"]
    assert replayed["verdict"] == "older"


def test_a_stick_that_is_cut_and_put_back(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path], stick: Path
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    export(headquarters, stick)
    imported(box, stick)
    headquarters.release(press("2.0.0", constant=20), "2.0.0")
    export(headquarters, stick)
    blob = next(p for p in (stick / "blobs/sha256").iterdir() if b'"constant": 20' in p.read_bytes())
    away = blob.rename(stick.parent / "away")
    (line,) = imported(box, stick, code=7)["visit"]["lines"]
    assert blob.name in line["reason"]
    assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]
    away.rename(blob)
    imported(box, stick)
    assert call(box.address, "press").as_numpy("out_x").tolist() == [21.0]


def test_a_bad_version_is_refused_and_told_at_home(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path], stick: Path
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    export(headquarters, stick)
    imported(box, stick)
    headquarters.release(press("2.0.0", refuse={"message": "no good"}), "2.0.0")
    export(headquarters, stick)
    imported(box, stick, code=7)
    assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]
    (row,) = headquarters("publish", "fleet", str(stick))["machines"]
    (line,) = row["report"]["lines"]
    assert (line["active"], line["wanted"]) == ("1.0.0", "2.0.0")
    assert "no good" in line["reason"]


def test_from_a_real_registry_with_other_peoples_tools(press: Callable[..., Path], stick: Path, tmp_path: Path) -> None:
    """The stick is an OCI layout as any other: skopeo reads it, and copies it to another one that is as good."""
    required("docker-registry", "skopeo")
    with docker_registry(tmp_path / "distribution") as registry:
        headquarters = Headquarters(tmp_path, registry.url, "press")
        headquarters.release(press("1.0.0", constant=10), "1.0.0")
        named = ("--registry", registry.url, "--prefix", "plant", "--root", str(headquarters.root))
        headquarters("bundle", "export", str(stick), *named)
        headquarters("bundle", "export", str(stick), *named)
    for name in [entry["annotations"][NAME] for entry in json.loads((stick / "index.json").read_text())["manifests"]]:
        places = [f"oci:{folder}:{name}" for folder in (stick, tmp_path / "copy")]
        subprocess.run(
            ["skopeo", "copy", "--preserve-digests", *places], check=True, capture_output=True, timeout=DEADLINE
        )
    with running(config=box_config("offline:")) as box:
        box.cli("registry", "trust", str(headquarters.root), "--yes")
        imported(box, tmp_path / "copy")
        assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]


def test_sticks_that_are_none(box: Daemon, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, code in ((tmp_path / "empty", 7), (tmp_path / "nothing", 6)):
        done = box.cli("bundle", "import", str(path), check=False)
        assert done.returncode == code, done.stderr
        assert str(path) in done.stderr


def test_a_read_only_stick_is_imported_all_the_same(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path], stick: Path
) -> None:
    """Whatever makes it so: here a link lies where the status would go."""
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    export(headquarters, stick)
    (stick / "return").symlink_to(stick.parent)
    visit = imported(box, stick)["visit"]
    assert visit["returned"] == ""
    assert "is a link" in visit["not_returned"]
    assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]


def test_without_a_registry_there_is_no_import(daemon: Daemon, stick: Path) -> None:
    done = daemon.cli("bundle", "import", str(stick), check=False)
    assert done.returncode == 7
    assert "offline:" in done.stderr
