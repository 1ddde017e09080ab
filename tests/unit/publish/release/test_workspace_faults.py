"""Killed or out of space at every fault point of a change: the old state or the new one, and the next change works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from publishing import PASSPHRASE, Desk, started

from appliance.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from appliance.osutil import faults
from appliance.publish.release import operations
from appliance.publish.release.settings import Settings
from appliance.publish.release.workspace import Workspace

_CHILD = """
import sys
from pathlib import Path
from appliance.osutil import faults
from appliance.clock import SystemClock
from appliance.publish.release import operations
from appliance.publish.release.publisher import Publisher
from appliance.publish.release.signers import FileSigners
from appliance.publish.release.workspace import Workspace
folder, = sys.argv[1:]
workspace = Workspace(Path(folder))
publisher = Publisher(workspace, FileSigners(workspace.keys, lambda name, new: b"correct horse battery"), SystemClock())
operations.rotate(publisher, "targets")
"""


def child(folder: Path, armed: str) -> subprocess.CompletedProcess:
    import appliance

    environment = {**os.environ, "APPLIANCE_FAULTS": armed, "PYTHONPATH": str(Path(appliance.__file__).parent.parent)}
    command = [sys.executable, "-c", _CHILD, folder]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def closed(folder: Path) -> None:
    """A folder as `init` leaves it; each kill gets one of its own."""
    started(folder).workspace.close()


def points(folder: Path) -> list[str]:
    """All fault points in the order in which they are passed, with how often."""
    closed(folder)
    passed = child(folder, "*=print")
    assert passed.returncode == 0, passed.stderr
    names = [line for line in passed.stderr.split() if line.startswith("publish.")]
    counted: dict[str, int] = {}
    found = []
    for name in names:
        counted[name] = counted.get(name, 0) + 1
        found.append(f"{name}=kill@{counted[name]}")
    return found


@pytest.mark.slow
def test_killed_at_every_fault_point(tmp_path):
    armed = points(tmp_path / "all")
    assert len(armed) > 30
    old_or_new = set()
    for number, entry in enumerate(armed):
        if number % 3 and "commit" not in entry and "batch_done" not in entry:
            continue  # each third: a kill costs a process and a new folder
        folder = tmp_path / str(number)
        closed(folder)
        assert child(folder, entry).returncode == -9, entry
        desk = Desk(folder)
        current = desk.publisher.current()  # verifies every signature
        old_or_new.add(current.targets.signed.version)
        assert current.targets.signed.version in (2, 3), entry
        assert not (folder / "metadata.batch").exists()
        assert operations.rotate(desk.publisher, "targets").done
        assert desk.publisher.current().targets.signed.version == current.targets.signed.version + 1
    assert old_or_new == {2, 3}


@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_full_disk_at_every_step(tmp_path, action):
    desk = started(tmp_path / "publisher")
    before = desk.publisher.current().timestamp.signed.version
    try:
        for number in range(1, 100):
            faults.arm(f"*={action}@{number}")
            # The wildcard counts each name for itself, so this fails at the number-th pass of whichever comes first.
            try:
                operations.refresh(desk.publisher)
            except OSError:
                faults.arm("")
                now = desk.open().publisher.current().timestamp.signed.version
                assert now in (before, before + 1)
                before = now
                continue
            break
        else:
            pytest.fail("it never got through")
    finally:
        faults.arm("")
    assert number > 2
    assert desk.publisher.current().timestamp.signed.version == before + 1


def test_a_batch_that_is_complete_is_carried_out(tmp_path):
    desk = started(tmp_path / "publisher")
    before = desk.publisher.current().timestamp.signed.version
    faults.arm("publish.metadata.rename=eio@2")
    with pytest.raises(OSError, match="fault point"):
        operations.refresh(desk.publisher)
    faults.arm("")
    assert desk.open().publisher.current().timestamp.signed.version == before + 1


def test_a_replacement_broken_off_is_completed(tmp_path):
    desk = started(tmp_path / "publisher")
    files = desk.workspace.files()
    for point in ("publish.set_aside", "publish.metadata.rename", "publish.batch_done"):
        faults.arm(f"{point}=eio")
        with pytest.raises(OSError, match="fault point"):
            desk.workspace.commit(files, replace=True)
        faults.arm("")
        assert desk.open().workspace.files() == files


def test_old_versions_are_forgotten_and_uploads_go_on(tmp_path, monkeypatch):
    from appliance import limits

    monkeypatch.setattr(limits, "publish_versions_kept", 2)
    monkeypatch.setattr(limits, "publish_timestamps_kept", 6)
    desk = started(tmp_path / "publisher")
    for _ in range(4):
        operations.refresh(desk.publisher)
    operations.rotate(desk.publisher, "root")
    names = set(desk.workspace.files())
    assert {name for name in names if "snapshot" in name} == {"6.snapshot.json", "7.snapshot.json"}
    assert {name for name in names if "timestamp" in name} == {
        "timestamp.json",
        *(f"{n}.timestamp.json" for n in range(2, 8)),
    }
    assert {name for name in names if "root" in name} == {"1.root.json", "2.root.json"}
    assert desk.publish() == ["7.snapshot.json", "2.root.json", "timestamp.json"]


def test_a_folder_that_was_only_begun_is_completed(tmp_path):
    faults.arm("publish.settings.rename=enospc")
    with pytest.raises(OSError, match="fault point"):
        Workspace.create(tmp_path / "p", Settings(prefix="acme"))
    faults.arm("")
    Workspace.create(tmp_path / "p", Settings(prefix="acme"))
    Workspace(tmp_path / "p").close()


def test_one_at_a_time(tmp_path):
    desk = Desk(tmp_path / "publisher")
    with pytest.raises(FailedPrecondition, match="in use"):
        Workspace(desk.folder)
    desk.workspace.close()
    Workspace(desk.folder).close()


def test_init_broken_off_goes_on_with_the_keys_that_are_there(tmp_path):
    desk = Desk(tmp_path / "publisher")
    faults.arm("publish.key.rename=enospc@4")
    with pytest.raises(OSError, match="fault point"):
        operations.init(desk.publisher)
    faults.arm("")
    assert operations.init(desk.open().publisher).done
    assert len(list(desk.workspace.keys.glob("*.pem"))) == 6
    assert PASSPHRASE


def test_folders_that_are_no_publishers(tmp_path):
    with pytest.raises(NotFound, match="publish init"):
        Workspace(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(AlreadyExists):
        Workspace.create(tmp_path, Settings(prefix="acme"))
    with pytest.raises(InvalidArgument, match="prefix"):
        Workspace.create(tmp_path / "new", Settings(prefix="Ac me"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('prefix = "a/b"\nmore = 1', "more"),
        ('prefix = "../a"', "prefix"),
        ('prefix = "a._b"', "prefix"),  # no repository's name, and so none that a box would accept
        ("", "prefix"),
        ('prefix = "a"\n[expiry_days]\nroot = 0', "expiry_days.root"),
        ('prefix = "a"\n[expiry_days]\ntimestamp = nan', "expiry_days.timestamp"),
        ('prefix = "a"\n[thresholds]\nroot = 0', "thresholds.root"),
        ('prefix = "a"\n[lines.x]\nminimum_appliance = "1"', "minimum_appliance"),
        ("prefix = ", "PUBLISH"),
    ],
)
def test_bad_settings(tmp_path, text, problem):
    Workspace.create(tmp_path / "p", Settings(prefix="acme"))
    (tmp_path / "p" / "publish.toml").write_text(text)
    with pytest.raises(InvalidArgument) as caught:
        Workspace(tmp_path / "p")
    assert problem in caught.value.message or problem == "PUBLISH"
    assert caught.value.reason == "PUBLISH_TOML"


def test_settings_survive_being_written(tmp_path):
    from appliance.publish.release import settings

    chosen = settings.parse(b'prefix = "a"\n[lines."x.y"]\nchannels = ["candidate"]\nhardware = ["cuda"]\n')
    assert settings.parse(settings.dump(chosen)) == chosen
