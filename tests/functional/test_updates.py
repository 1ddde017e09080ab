"""From `appliance publish release` to serving, through a registry in a folder: good releases, bad ones, and lies."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import Daemon
from docker_registry import docker_registry, required
from headquarters import Headquarters, box_config
from running import running, versions
from traffic import Traffic, call

FakeFolder = Callable[..., Path]


@pytest.fixture
def headquarters(tmp_path: Path) -> Headquarters:
    return Headquarters(tmp_path, "", "press")


@pytest.fixture
def box(headquarters: Headquarters, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    probation = getattr(request, "param", 0)
    with running(config=box_config(headquarters.url, probation=probation)) as daemon:
        daemon.cli("registry", "trust", str(headquarters.root), "--yes")
        yield daemon


@pytest.fixture
def press(fake_folder: FakeFolder, tmp_path: Path) -> Callable[..., Path]:
    def make(version: str, **script: Any) -> Path:
        made = fake_folder("press", version, **script)
        return made.rename(tmp_path / f"press-{version}")

    return make


def sync(box: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box.cli("sync", "status", "--json", check=False).stdout)
    return found


def line(box: Daemon) -> dict[str, Any]:
    return next(iter(sync(box)["lines"]), {})


def runs(box: Daemon, version: str) -> Callable[[], bool]:
    return lambda: versions(box, "press").get(version) == ("ready", True)


def test_a_box_that_nobody_sets_up_trusts_what_its_configuration_names(
    headquarters: Headquarters, press: Callable[..., Path]
) -> None:
    headquarters.release(press("1.0.0"), "1.0.0")
    config = box_config(headquarters.url) + f'root = "{headquarters.root}"\n'
    with running(config=config) as box:
        box.eventually(runs(box, "1.0.0"))


def test_a_release_runs_and_the_next_one_takes_over_without_a_lost_call(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path]
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    box.eventually(runs(box, "1.0.0"))
    assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]
    with Traffic(box.address, "press") as traffic:
        headquarters.release(press("2.0.0", constant=20), "2.0.0")
        box.eventually(runs(box, "2.0.0"))
        traffic.more(5)
    assert traffic.errors == []
    assert {a.version for a in traffic.answers} == {"1.0.0", "2.0.0"}
    box.eventually(lambda: line(box)["state"] == "installed")
    assert line(box)["version"] == "2.0.0"
    # Going back by hand holds: the version that was left is not brought again.
    box.cli("models", "rollback", "press")
    polled = sync(box)["polled_ms"]
    box.eventually(lambda: int(sync(box)["polled_ms"]) > int(polled))
    assert versions(box, "press")["1.0.0"] == ("ready", True)
    assert "quarantined" in line(box)["reason"]


@pytest.mark.parametrize("box", [600], indirect=True)
def test_a_bad_release_is_refused_and_not_tried_again(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path]
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    box.eventually(runs(box, "1.0.0"))
    headquarters.release(press("2.0.0", refuse={"message": "no good"}), "2.0.0")
    box.eventually(lambda: line(box).get("reason", "").startswith("not 2.0.0: it is quarantined"))
    assert versions(box, "press")["1.0.0"] == ("ready", True)
    assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]
    headquarters.release(press("3.0.0", constant=30), "3.0.0")
    box.eventually(runs(box, "3.0.0"))
    # What runs is on probation now, against the version before it.
    assert box.model("press", "3.0.0").probation_until_ms > 0


def test_other_bytes_under_a_signed_name_never_run(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path]
) -> None:
    box.cli("sync", "pause")
    headquarters.release(press("1.0.0", constant=12345), "1.0.0")
    blob = headquarters.blob_of(b"12345")
    good = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(good.replace(b"12345", b"54321"))
    box.cli("sync", "resume")
    box.eventually(lambda: any("another digest" in alarm for alarm in sync(box)["alarms"]))
    assert line(box)["state"] == "failed"
    assert versions(box, "press") == {}
    blob.write_bytes(good)
    box.cli("sync", "now")
    box.eventually(runs(box, "1.0.0"))


def test_another_publisher_counts_for_nothing(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path], tmp_path: Path
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    box.eventually(runs(box, "1.0.0"))
    (tmp_path / "other").mkdir()
    other = Headquarters(tmp_path / "other", "", "press")
    other.release(press("9.0.0", constant=90), "9.0.0")
    (tmp_path / "registry").rename(tmp_path / "away")
    (tmp_path / "other/registry").rename(tmp_path / "registry")
    box.cli("sync", "now")
    box.eventually(lambda: bool(sync(box)["error"]))
    assert versions(box, "press") == {"1.0.0": ("ready", True)}
    refused = box.cli("registry", "trust", str(other.root), "--yes", check=False)
    assert refused.returncode == 7
    assert "--force" in refused.stderr


def test_a_pause_holds_across_a_death_and_updates_go_on_after_it(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path]
) -> None:
    box.cli("sync", "pause")
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    pid = box.process_of("sync")
    os.kill(pid, signal.SIGKILL)
    box.eventually(lambda: box.process_of("sync") not in (0, pid))
    assert sync(box)["paused"]
    assert versions(box, "press") == {}
    box.cli("sync", "resume")
    box.eventually(runs(box, "1.0.0"))


def test_a_withdrawn_version_goes_on_with_an_alarm_and_is_not_brought_anew(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path]
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    headquarters.release(press("2.0.0", constant=20), "2.0.0", "--channel", "candidate")
    box.eventually(runs(box, "1.0.0"))
    box.eventually(lambda: "it is released to candidate" in line(box)["reason"])
    headquarters("publish", "withdraw", "press", "1.0.0")
    box.eventually(lambda: any("is not released any more" in alarm for alarm in sync(box)["alarms"]))
    assert call(box.address, "press").as_numpy("out_x").tolist() == [11.0]


def test_a_plan_shows_what_would_come_and_does_nothing(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path]
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    box.eventually(runs(box, "1.0.0"))
    box.cli("sync", "pause")
    headquarters.release(press("2.0.0", constant=20), "2.0.0")
    plan = box.json("sync", "plan")
    assert plan["source"] == headquarters.url
    assert [(line["version"], line["state"]) for line in plan["lines"]] == [("2.0.0", "waiting")]
    assert "paused" in plan["lines"][0]["reason"]
    assert versions(box, "press") == {"1.0.0": ("ready", True)}
    assert box.json("sync", "limit", "700")["limit_kib_s"] == 700
    assert sync(box)["limit_kib_s"] == 700
    box.cli("sync", "resume")
    box.eventually(runs(box, "2.0.0"))
    headquarters.release(press("3.0.0", constant=30), "3.0.0", "--channel", "candidate")
    plan = box.json("sync", "plan")
    assert [(line["version"], line["state"]) for line in plan["lines"]] == [("2.0.0", "installed")]
    assert "not 3.0.0: it is released to candidate" in plan["lines"][0]["reason"]


def test_there_is_no_way_back_to_a_version_that_is_withdrawn(
    headquarters: Headquarters, box: Daemon, press: Callable[..., Path]
) -> None:
    headquarters.release(press("1.0.0", constant=10), "1.0.0")
    box.eventually(runs(box, "1.0.0"))
    headquarters.release(press("2.0.0", constant=20), "2.0.0")
    box.eventually(runs(box, "2.0.0"))
    headquarters("publish", "withdraw", "press", "1.0.0")
    polled = sync(box)["polled_ms"]
    box.eventually(lambda: int(sync(box)["polled_ms"]) > int(polled) + 2000)
    refused = box.cli("models", "rollback", "press", check=False)
    assert refused.returncode == 7
    assert "is not allowed to run any more" in refused.stderr
    assert call(box.address, "press").as_numpy("out_x").tolist() == [21.0]


def test_through_a_real_registry(press: Callable[..., Path], tmp_path: Path) -> None:
    required("docker-registry")
    with docker_registry(tmp_path / "distribution") as registry:
        headquarters = Headquarters(tmp_path, registry.url, "press")
        headquarters.release(press("1.0.0", constant=10), "1.0.0")
        with running(config=box_config(registry.url)) as box:
            box.cli("registry", "trust", str(headquarters.root), "--yes")
            box.eventually(runs(box, "1.0.0"))
            headquarters.release(press("2.0.0", constant=20), "2.0.0")
            box.eventually(runs(box, "2.0.0"))
            assert call(box.address, "press").as_numpy("out_x").tolist() == [21.0]


def test_without_a_registry_nothing_of_it_is_there(daemon: Daemon, headquarters: Headquarters) -> None:
    assert sync(daemon)["registry"] == ""
    assert daemon.cli("sync", "now", check=False).returncode == 7
    assert daemon.cli("registry", "trust", str(headquarters.root), "--yes", check=False).returncode == 7
