"""Every kind of damage is found, named and healed, or told; the store of a daemon that runs, and one opened anew."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import Unavailable
from appliance.osutil import faults
from appliance.questions import Desired
from appliance.store import manifest
from appliance.store.aside import keep_aside, take_away
from appliance.store.blobs import Tick
from appliance.store.manifest import Descriptor
from appliance.store.store import Store
from tests.support import damaged_stores as damaged
from tests.support import model_folders as folders

Damage = Callable[[Path], object]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return damaged.prepare(tmp_path)


@pytest.fixture
def originals(state: Path) -> dict[str, bytes]:
    return damaged.blobs_of(state)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("moved.broken"))
    path.symlink_to("moved.broken")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def move_view_away(state: Path) -> None:
    view = damaged.view_of(state)
    view.rename(state / "elsewhere")
    view.symlink_to(state / "elsewhere")


# Damage that heals from what the disk still has, and the kind and file that name it.
HEALED: list[tuple[str, Damage, tuple[str, str]]] = [
    ("blob deleted", lambda s: damaged.file_of(s).unlink(), ("blob-missing", "model.onnx")),
    ("shared blob deleted", lambda s: damaged.file_of(s, "README.md").unlink(), ("blob-missing", "README.md")),
    ("blob is a link", lambda s: replace_by_link(damaged.file_of(s)), ("blob-not-a-file", "model.onnx")),
    ("blob is a folder", lambda s: replace_by_folder(damaged.file_of(s)), ("blob-not-a-file", "model.onnx")),
    ("manifest deleted", lambda s: damaged.manifest_of(s).unlink(), ("blob-missing", "manifest")),
    ("manifest flipped", lambda s: damaged.flip(damaged.manifest_of(s)), ("blob-rotten", "manifest")),
    ("manifest cut", lambda s: damaged.overwrite(damaged.manifest_of(s), b"{"), ("blob-size", "manifest")),
    ("config flipped", lambda s: damaged.flip(damaged.config_of(s)), ("blob-rotten", "config")),
    ("config deleted", lambda s: damaged.config_of(s).unlink(), ("blob-missing", "config")),
    ("foreign file", lambda s: (s / "store/blobs/sha256/notes.txt").write_text("hi"), ("foreign", "")),
    ("foreign folder", lambda s: (s / "store/blobs/sha512").mkdir(), ("foreign", "")),
    ("link broken", lambda s: damaged.break_link(damaged.view_of(s) / "model.onnx"), ("view", "model.onnx")),
    ("view file deleted", lambda s: (damaged.view_of(s) / "weights/big.bin").unlink(), ("view", "weights/big.bin")),
    ("view file a link", lambda s: replace_by_link(damaged.view_of(s) / "model.onnx"), ("view", "model.onnx")),
    ("view file a folder", lambda s: replace_by_folder(damaged.view_of(s) / "model.onnx"), ("view", "model.onnx")),
    ("view deleted", lambda s: shutil.rmtree(damaged.view_of(s)), ("view", "")),
    ("view is a link", move_view_away, ("view", "")),
    ("stranger in a view", lambda s: (damaged.view_of(s) / "virus.py").write_text("x"), ("view", "virus.py")),
    ("index deleted", lambda s: damaged.index(s).unlink(), ("index", "")),
    ("index empty", lambda s: damaged.index(s).write_bytes(b""), ("index", "")),
    ("layout deleted", lambda s: (s / "store/oci-layout").unlink(), ("index", "")),
    ("layout changed", lambda s: (s / "store/oci-layout").write_text("{}"), ("index", "")),
    ("desired deleted", lambda s: (s / "state/desired.json").unlink(), ("desired", "")),
    ("desired a folder", lambda s: replace_by_folder(s / "state/desired.json"), ("desired", "")),
    ("second copy cut", lambda s: (s / "state/desired.copy.json").write_text("{"), ("desired", "")),
]


@pytest.mark.parametrize(("spoil", "named"), [row[1:] for row in HEALED], ids=[row[0] for row in HEALED])
def test_damage_is_found_named_and_healed(state: Path, spoil: Damage, named: tuple[str, str]) -> None:
    store = Store(state)
    assert store.check().problems == ()
    before, desired = damaged.digests(state), store.desired()
    views = {path: path.read_bytes() for path in (state / "models").rglob("*") if path.is_file()}
    spoil(state)
    found = store.check()
    assert named in damaged.told(found)
    assert found.problem_count == len(found.problems)
    if named[1]:
        assert all("press:1.0.0" in problem.models and problem.in_use for problem in found.problems)
    assert store.check() == found  # looking changes nothing

    report = store.repair()
    assert report.problems == ()
    assert named in [(problem.kind, problem.file) for problem in report.healed]
    assert all(problem.todo for problem in report.healed)
    assert store.check().problems == ()
    assert store.desired() == desired
    assert damaged.digests(state) == before
    assert Store(state).desired() == desired
    assert {path: path.read_bytes() for path in (state / "models").rglob("*") if path.is_file()} == views


# Damage of bytes that are nowhere else on the disk.
LOST: list[tuple[str, Damage, str]] = [
    ("flipped", lambda s: damaged.flip(damaged.file_of(s)), "blob-rotten"),
    ("cut", lambda s: damaged.overwrite(damaged.file_of(s), b"onnx"), "blob-size"),
    ("model.toml", lambda s: damaged.flip(damaged.file_of(s, "model.toml")), "blob-rotten"),
    (
        "gone with its name in the view",
        lambda s: [p.unlink() for p in (damaged.view_of(s) / "model.onnx", damaged.file_of(s))],
        "blob-missing",
    ),
]


@pytest.mark.parametrize(("spoil", "kind"), [row[1:] for row in LOST], ids=[row[0] for row in LOST])
def test_what_rotted_is_fetched_back_under_an_engine_that_goes_on(
    state: Path, originals: dict[str, bytes], spoil: Damage, kind: str
) -> None:
    store = Store(state)
    asked: list[str] = []
    damaged.fetch_from(store, state, originals, asked)
    view = damaged.view_of(state)
    spoil(state)
    opened = [path.open("rb") for path in sorted(view.rglob("*")) if path.is_file()]
    held = [file.read() for file in opened]
    report = store.repair()
    assert report.problems == ()
    assert kind in {problem.kind for problem in report.healed}
    assert len(asked) == len(set(asked)) == 1
    for file, was in zip(opened, held, strict=True):
        file.seek(0)
        assert file.read() == was  # the old inode, untouched
        file.close()
    assert {
        "sha256:" + p.name: p.read_bytes() for p in damaged.file_of(state).parent.iterdir() if len(p.name) == 64
    } == (originals)
    assert store.check().problems == ()
    kept = [path for path in damaged.file_of(state).parent.iterdir() if path.name.endswith(".broken")]
    assert len(kept) == (kind != "blob-missing")
    assert report.set_aside == len(kept)
    store.collect_garbage(set_aside=True)
    assert not kept or not kept[0].exists()


@pytest.mark.parametrize("answer", ["no hook", "no", "lies", "raises"])
def test_without_a_source_the_operator_is_told_and_what_runs_keeps_its_file(
    state: Path, tmp_path: Path, answer: str
) -> None:
    def fetch(blob: Descriptor, names: frozenset[str], tick: Tick) -> bool:
        assert names == {"press"}
        if answer == "raises":
            raise Unavailable("the registry is not there")
        return answer == "lies"

    store = Store(state)
    if answer != "no hook":
        store.heal_with(fetch)
    active = damaged.file_of(state)
    idle = damaged.file_of(state, version="2.0.0")
    for path in (active, idle):
        damaged.flip(path)
    report = store.repair()
    assert {(p.models, p.kind, p.in_use) for p in report.problems} == {
        (("press:1.0.0",), "blob-rotten", True),
        (("press:2.0.0",), "blob-missing", False),
    }
    assert all("appliance models add FOLDER" in problem.todo for problem in report.problems)
    assert all(("the registry is not there" in p.todo) == (answer == "raises") for p in report.problems)
    assert active.exists()
    assert [p.name for p in active.parent.iterdir() if ".broken" in p.name] == [f"{idle.name}.broken"]
    assert [m.version for m in store.versions() if m.name == "press"] == ["1.0.0"]
    assert store.repair().problem_count == 2  # again and again, the same

    store.add(folders.make(tmp_path / "again"))
    store.add(folders.make(tmp_path / "later", folders.onnx_toml("2.0.0"), **{"model.onnx": b"second"}))
    assert store.check().problems == ()
    assert (damaged.view_of(state) / "model.onnx").read_bytes() == b"onnx bytes"


def test_a_manifest_that_lies_is_told_and_not_healed(state: Path) -> None:
    forged = damaged.manifest_of(state).read_bytes().replace(b"labels.txt", b"../abc.txt")
    digest = manifest.digest_of(forged)
    damaged.blob(state, digest).write_bytes(forged)
    old = damaged.entry(state, "press", "1.0.0")["digest"]
    damaged.index(state).write_text(damaged.index(state).read_text().replace(old, digest))
    store = Store(state)
    store.repair()
    (problem,) = store.check().problems
    assert (problem.kind, problem.models) == ("manifest", ("press:1.0.0",))
    assert "names files that may not be" in problem.wrong
    assert not (state / "models/press/abc.txt").exists()


def test_progress_covers_every_byte_and_repair_reads_what_is_whole_once(state: Path) -> None:
    store = Store(state)
    seen: list[tuple[int, int]] = []
    report = store.check(lambda done, total: seen.append((done, total)))
    size = sum(p.stat().st_size for p in (state / "store/blobs/sha256").iterdir())
    assert seen[-1] == (size, size)
    assert report.bytes_read == size
    assert report.versions == 3
    assert report.blobs == len(list((state / "store/blobs/sha256").iterdir()))
    damaged.file_of(state).unlink()
    assert store.repair().bytes_read == size


def test_a_sector_that_cannot_be_read_is_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = damaged.file_of(state).stat().st_ino
    real = os.preadv

    def preadv(fd: int, buffers: list[memoryview], offset: int) -> int:
        if os.fstat(fd).st_ino == bad:
            raise OSError(5, "Input/output error")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    (problem,) = Store(state).check().problems
    assert (problem.kind, problem.file) == ("blob-unreadable", "model.onnx")
    assert "Input/output error" in problem.wrong


def test_a_full_disk_stops_a_repair_with_a_refusal_and_harms_nothing(state: Path) -> None:
    store = Store(state)
    damaged.manifest_of(state).unlink()
    faults.arm("store.blob_again.write=enospc")
    try:
        with pytest.raises(Exception, match="the disk that holds the models is full"):
            store.repair()
    finally:
        faults.arm("")
    assert store.repair().problems == ()


def test_bytes_that_are_rotten_in_the_view_too_are_not_taken_and_the_rest_is_mended(state: Path) -> None:
    store = Store(state)
    before = store.versions()
    lost = damaged.file_of(state)
    damaged.flip(lost)
    lost.unlink()
    (damaged.view_of(state) / "labels.txt").unlink()
    report = store.repair()
    assert [(p.kind, p.file) for p in report.problems] == [("blob-missing", "model.onnx")]
    assert [(p.kind, p.file) for p in report.healed] == [("view", "labels.txt")]
    assert not lost.exists()
    assert store.versions() == before  # what runs stays known, as long as it runs


def test_a_corrupt_file_is_set_aside_once_and_beside_older_ones(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    assert keep_aside(path) is None
    path.write_text("first")
    assert keep_aside(path) == keep_aside(path) == tmp_path / "index.json.broken"
    path.unlink()
    path.write_text("second")
    take_away(path)
    path.symlink_to("nowhere")
    take_away(path)
    kept = {p.name: p.is_symlink() or p.read_text() for p in tmp_path.iterdir()}
    assert kept == {"index.json.broken": "first", "index.json.broken.1": "second", "index.json.broken.2": True}


def test_a_file_system_without_hard_links_holds_sound_copies(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    for file in (p for p in (state / "models").rglob("*") if p.is_file()):
        damaged.break_link(file)
    store = Store(state)
    assert store.check().problems == ()
    damaged.flip(damaged.view_of(state) / "model.onnx")
    damaged.flip(damaged.file_of(state, "labels.txt"))
    damaged.file_of(state, "README.md").unlink()
    assert {problem.kind for problem in store.check().problems} == {"view", "blob-rotten", "blob-missing"}
    report = store.repair()
    assert report.problems == ()
    assert {problem.kind for problem in report.healed} == {"view", "blob-rotten", "blob-missing"}
    assert (damaged.view_of(state) / "model.onnx").read_bytes() == b"onnx bytes"
    assert store.check().problems == ()


def test_the_way_back_is_kept_as_what_runs(state: Path) -> None:
    store = Store(state)
    store.set_desired(Desired("press", "1.0.0", previous="2.0.0"))
    path = damaged.file_of(state, version="2.0.0")
    damaged.flip(path)
    (problem,) = store.repair().problems
    assert (problem.kind, problem.in_use) == ("blob-rotten", True)
    assert path.exists()
    assert "2.0.0" in {model.version for model in Store(state).versions()}
