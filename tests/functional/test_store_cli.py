"""`appliance store check|repair|gc` against the real daemon: damage on its disk, while it answers calls."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from daemon_process import Daemon
from running import add, running, versions
from traffic import Traffic, call

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc

FakeFolder = Callable[..., Path]
DAMAGED = 10


@pytest.fixture
def box() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


def blob_of(box: Daemon, name: str, file: str = "model.json") -> Path:
    """The blob of a model's file, found by the inode that its view shows."""
    view = next((box.state / "models" / name).iterdir()) / file
    blobs = (box.state / "store/blobs/sha256").iterdir()
    return next(path for path in blobs if path.stat().st_ino == view.stat().st_ino)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def served(box: Daemon) -> bool:
    return call(box.address, "press").as_numpy("out_x") is not None


def outcome(box: Daemon, *arguments: str, code: int = 0) -> Any:
    """The document of a command that ends with ``code``."""
    done = box.cli("store", *arguments, "--json", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_model_in_use_rots_is_named_and_comes_back_with_its_folder(box: Daemon, fake_folder: FakeFolder) -> None:
    folder = fake_folder("press")
    add(box, folder)
    add(box, fake_folder("zeta", delay_ms=0))
    assert outcome(box, "check")["sound"]
    flip(blob_of(box, "press"))

    found = outcome(box, "check", code=DAMAGED)
    (problem,) = found["problems"]
    assert (problem["kind"], problem["models"], problem["file"], problem["in_use"]) == (
        "blob-rotten",
        ["press:1.0.0"],
        "model.json",
        True,
    )
    done = box.cli("store", "check", check=False)
    assert "press:1.0.0; model.json; in use" in done.stdout
    assert "appliance store repair" in done.stdout

    found = outcome(box, "repair", code=DAMAGED)
    assert "appliance models add FOLDER" in found["problems"][0]["todo"]
    assert served(box)  # it serves on
    pid = box.model("press").pid
    add(box, folder)
    assert box.model("press").pid == pid
    assert outcome(box, "check")["sound"]
    assert outcome(box, "repair")["sound"]
    box.process.send_signal(signal.SIGTERM)
    assert box.process.wait(30) == 0
    assert any("blob" in line and "press:1.0.0" in line and "damaged" in line for line in box.log)


def test_a_version_that_could_not_start_is_whole_and_served_after_a_repair(
    short_path: Path, fake_folder: FakeFolder
) -> None:
    with running(short_path) as box:
        add(box, fake_folder("press"))
        add(box, fake_folder("other"))
        index = json.loads((box.state / "store/index.json").read_text())["manifests"]
    press = next(e for e in index if "press" in str(e["annotations"]))
    (short_path / "state/store/blobs/sha256" / press["digest"][7:]).unlink()
    shutil.rmtree(next((short_path / "state/models/other").iterdir()))  # made anew at the start
    with running(short_path) as box:
        box.eventually(lambda: versions(box, "other") == {"1.0.0": ("ready", True)})
        assert versions(box, "press") == {}
        found = outcome(box, "check", code=DAMAGED)
        assert [(p["kind"], p["file"]) for p in found["problems"]] == [("blob-missing", "manifest")]
        report = outcome(box, "repair")
        assert [(p["kind"], p["todo"]) for p in report["healed"]] == [
            ("blob-missing", "made anew from the model's files")
        ]
        assert versions(box, "press") == {"1.0.0": ("ready", True)}
        assert served(box)
    with running(short_path) as box:
        box.eventually(lambda: versions(box, "press") == {"1.0.0": ("ready", True)})
        assert outcome(box, "check")["sound"]


def test_repairs_and_collections_under_traffic_lose_no_call(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("press"))
    box.add(fake_folder("press", "2.0.0", delay_ms=1), "--no-activate")
    view = next(v for v in (box.state / "models/press").iterdir() if v.name.startswith("1.0.0"))
    spoils: tuple[Callable[[], object], ...] = (
        (view / "model.json").unlink,
        lambda: shutil.rmtree(view),
        lambda: (box.state / "store/index.json").write_text("{"),
        (box.state / "state/desired.json").unlink,
    )
    with Traffic(box.address, "press") as traffic:
        for spoil in spoils:
            spoil()
            assert outcome(box, "check", code=DAMAGED)["problems"]
            assert outcome(box, "repair")["sound"]
        box.cli("models", "remove", "press", "2.0.0", "--yes")
        outcome(box, "gc")
        traffic.more(4)
    assert traffic.errors == []
    assert (view / "model.json").exists()
    assert served(box)


def test_gc_says_what_it_would_free_and_frees_it(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("press"))
    orphan = box.state / "store/blobs/sha256" / ("0" * 64)
    orphan.write_bytes(bytes(5000))
    would = outcome(box, "gc", "--dry-run")
    assert (would["dry_run"], would["bytes_freed"], would["item_count"]) == (True, 5000, 1)
    assert orphan.exists()
    said = box.cli("store", "gc", "--dry-run").stdout
    assert "4.88 KiB would be freed, 1 item" in said
    assert outcome(box, "gc") == {**would, "dry_run": False}
    assert not orphan.exists()
    assert outcome(box, "gc")["items"] == []
    flip(blob_of(box, "press", "model.toml"))
    aside = box.state / "store/index.json.broken"
    aside.write_text("evidence")
    assert outcome(box, "gc")["items"] == []
    assert [item["kind"] for item in outcome(box, "gc", "--broken")["items"]] == ["set-aside"]
    assert not aside.exists()


def test_progress_comes_and_the_sync_process_lives_while_it_hashes(box: Daemon, fake_folder: FakeFolder) -> None:
    folder = fake_folder("big", more_toml='[[files]]\npath = "big.bin"\nrole = "doc"\n')
    with (folder / "big.bin").open("wb") as big:
        big.truncate(512 * 2**20)
    add(box, folder)
    pid = box.process_of("sync")
    with box.channel() as channel:
        said = list(admin_pb2_grpc.AdminStub(channel).CheckStore(admin_pb2.CheckStoreRequest(), timeout=60))
    assert said[-1].done
    assert said[-1].report.bytes_read > 512 * 2**20
    steps = [(m.current, m.total) for m in said[:-1] if m.total]
    assert steps == sorted(steps)
    assert len(steps) >= 2
    assert box.process_of("sync") == pid


def test_the_sync_process_dies_over_a_check(box: Daemon, fake_folder: FakeFolder) -> None:
    folder = fake_folder("big", more_toml='[[files]]\npath = "big.bin"\nrole = "doc"\n')
    with (folder / "big.bin").open("wb") as big:
        big.truncate(512 * 2**20)
    add(box, folder)
    with box.channel() as channel:
        answers = admin_pb2_grpc.AdminStub(channel).CheckStore(admin_pb2.CheckStoreRequest(), timeout=60)
        next(answers)
        os.kill(box.process_of("sync"), signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as caught:
            list(answers)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert outcome(box, "check")["sound"]
