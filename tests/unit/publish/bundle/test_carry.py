"""From a registry onto a stick: added to, brought up to date, cut off at any write, and never made older."""

import time
from pathlib import Path

import pytest
import sticks
from memory_registry import MemoryRegistry

from appliance.errors import AlreadyExists, ApplianceError, FailedPrecondition, NotFound, ResourceExhausted
from appliance.osutil import faults
from appliance.publish.bundle import newer
from appliance.publish.bundle.export import Wish, carry
from appliance.registry.bundle.stick import open_stick
from appliance.registry.trust.failures import Expired, Untrusted
from appliance.store import disk

BIG = bytes(range(256)) * 100


@pytest.fixture
def desk(tmp_path: Path):  # type: ignore[no-untyped-def]
    return sticks.desk(tmp_path / "hq", **{"weights/big.bin": BIG})


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return tmp_path / "stick"


def files(stick: Path) -> dict[str, bytes]:
    return {str(path.relative_to(stick)): path.read_bytes() for path in stick.rglob("*") if path.is_file()}


def test_what_it_says_of_the_stick(desk, stick: Path) -> None:  # type: ignore[no-untyped-def]
    done = sticks.exported(desk, stick)
    assert [(r.line, r.version) for r in done.releases] == [("press", "1.0.0")]
    assert done.bytes == done.releases[0].bytes > len(BIG)
    assert done.stick_bytes == sum(len(data) for name, data in files(stick).items() if "blobs" in name)
    assert done.stick_bytes > done.bytes
    assert abs(done.fresh_until_s - time.time() - 86_400) < 600  # the timestamp's day
    assert done.root_version == 1
    assert done.metadata_files == 1 + 2 + 1 + 1  # roots, targets and the line's, snapshot, timestamp
    box = sticks.Box(stick.parent / "box", desk.root(), desk.clock)
    assert box.visit(stick) == ["press:1.0.0"]


def test_again_changes_nothing_and_news_are_added(desk, stick: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sticks.exported(desk, stick)
    before = files(stick)
    inodes = {path: path.stat().st_ino for path in (stick / "blobs/sha256").iterdir()}
    sticks.exported(desk, stick)
    assert {p: p.stat().st_ino for p in inodes if p.stat().st_size >= len(BIG)}.items() <= inodes.items()
    assert files(stick) == before
    desk.pack(tmp_path / "m-2.0.0", "2.0.0", **{"weights/big.bin": BIG})
    desk.release("2.0.0")
    desk.publish()
    done = sticks.exported(desk, stick)
    assert [r.version for r in done.releases] == ["2.0.0"]
    box = sticks.Box(tmp_path / "box", desk.root(), desk.clock)
    assert "press:2.0.0" in box.visit(stick)


def test_several_sites_share_blobs(desk, stick: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The same model below another prefix, of another publisher."""
    other = sticks.desk(tmp_path / "b", "site-b", **{"weights/big.bin": BIG})
    first = sticks.exported(desk, stick)
    second = sticks.exported(other, stick)
    assert second.stick_bytes - first.stick_bytes < len(BIG)
    source = open_stick(stick)
    assert {"timestamp.json", "1.root.json"} <= set(source.tags("acme/tuf")) & set(source.tags("site-b/tuf"))
    assert sticks.Box(tmp_path / "a", desk.root(), desk.clock).visit(stick) == ["press:1.0.0"]
    assert sticks.Box(tmp_path / "b-box", other.root(), other.clock, "site-b").visit(stick) == ["press:1.0.0"]
    assert sticks.exported(desk, stick).stick_bytes == second.stick_bytes


def test_lines_of_earlier_runs_stay_current(desk, stick: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from appliance.publish.release import operations

    operations.line_add(desk.publisher, "vad")
    desk.pack(tmp_path / "v", "1.0.0", "vad")
    desk.release("1.0.0", "vad")
    desk.publish()
    assert len(sticks.exported(desk, stick, "press").releases) == 1
    assert newer.lines(open_stick(stick), "acme") == {"press"}
    desk.pack(tmp_path / "p2", "2.0.0")
    desk.release("2.0.0")
    desk.publish()
    done = sticks.exported(desk, stick, "vad")
    assert [f"{r.line}:{r.version}" for r in done.releases] == ["press:2.0.0", "vad:1.0.0"]


@pytest.mark.parametrize("point", ["blob.write", "blob.sync", "blob.rename", "index.write", "index.rename"])
def test_cut_off_at_any_write_the_next_run_completes(desk, tmp_path: Path, point: str) -> None:  # type: ignore[no-untyped-def]
    whole = tmp_path / "whole"
    sticks.exported(desk, whole)
    number = 0
    while True:
        number += 1
        at = tmp_path / f"stick-{number}"
        faults.arm(f"layout.{point}=eio@{number}")
        try:
            sticks.exported(desk, at)
        except ApplianceError:
            pass
        else:
            break
        finally:
            faults.arm("")
        box = sticks.Box(tmp_path / f"box-{number}", desk.root(), desk.clock)
        # Half a stick is no use, and does no harm.
        with pytest.raises(ApplianceError):
            box.visit(at)
        sticks.exported(desk, at)
        assert files(at) == files(whole)
    assert number > 6


def test_never_back(desk, stick: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    old = MemoryRegistry()
    old.blobs, old.manifests = dict(desk.remote.blobs), dict(desk.remote.manifests)
    desk.pack(tmp_path / "m2", "2.0.0")
    desk.release("2.0.0")
    desk.publish()
    sticks.exported(desk, stick)
    before = files(stick)
    with pytest.raises(AlreadyExists) as caught:
        carry(old, stick, Wish("acme", desk.root()), desk.clock, sticks.silent)
    assert caught.value.reason == "STICK_NEWER"
    assert files(stick) == before


def test_never_from_one_publisher_to_another(desk, stick: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sticks.exported(desk, stick)
    before = files(stick)
    other = sticks.desk(tmp_path / "other")
    with pytest.raises(AlreadyExists) as caught:
        sticks.exported(other, stick)
    assert caught.value.reason == "STICK_OTHER"
    assert files(stick) == before


def test_what_no_machine_would_take_is_not_carried(desk, stick: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    other = sticks.desk(tmp_path / "other")
    with pytest.raises(Untrusted):
        carry(desk.remote, stick, Wish("acme", other.root()), desk.clock, sticks.silent)
    with pytest.raises(NotFound):
        sticks.exported(desk, stick, "vad")
    with pytest.raises(NotFound):
        carry(desk.remote, stick, Wish("nowhere", desk.root()), desk.clock, sticks.silent)
    desk.clock.advance(2 * 86_400)
    with pytest.raises(Expired):
        sticks.exported(desk, stick)
    assert not stick.exists()


def test_nothing_is_released(tmp_path: Path, stick: Path) -> None:
    import publishing

    desk = publishing.started(tmp_path / "hq")
    with pytest.raises(FailedPrecondition, match="nothing is released"):
        sticks.exported(desk, stick)


def test_a_stick_without_room(desk, stick: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(disk, "free_bytes", lambda _folder: 1000)
    with pytest.raises(ResourceExhausted) as caught:
        sticks.exported(desk, stick)
    assert caught.value.reason == "STICK_FULL"
    assert not stick.exists()


def test_a_damaged_stick_is_made_whole(desk, stick: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sticks.exported(desk, stick)
    before = files(stick)
    for path in sorted((stick / "blobs/sha256").iterdir()):
        path.write_bytes(b"rotten")
    sticks.exported(desk, stick)
    box = sticks.Box(tmp_path / "box", desk.root(), desk.clock)
    assert box.visit(stick) == ["press:1.0.0"]
    assert files(stick) == before


def test_a_registry_that_moves_on_meanwhile(desk, stick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Between the verification and the copying somebody releases: what is carried is what was verified last."""
    import appliance.publish.bundle.export as module

    real, times = module.export, []

    def moved(*arguments: object):  # type: ignore[no-untyped-def]
        if not times:
            times.append(1)
            desk.pack(tmp_path / "m2", "2.0.0")
            desk.release("2.0.0")
            desk.publish()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "export", moved)
    assert [r.version for r in sticks.exported(desk, stick).releases] == ["2.0.0"]
