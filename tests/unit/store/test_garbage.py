"""Mark and sweep: roots are the index and the pins; a dry run says what would go; never a blob in use."""

from pathlib import Path

import pytest

from appliance.osutil import durable
from appliance.store.store import Store
from tests.support import damaged_stores as damaged
from tests.support import model_folders as folders


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return damaged.prepare(tmp_path)


def files(state: Path) -> set[str]:
    return {path.relative_to(state).as_posix() for path in state.rglob("*")}


def test_a_dry_run_names_what_the_real_one_then_takes(state: Path) -> None:
    own = {p for p in files(state) if damaged.entry(state, "zeta", "1.0.0")["digest"][7:] in p or "models/zeta" in p}
    store = Store(state)
    store._index.drop("zeta", "1.0.0")
    (state / "store/blobs/sha256" / ("0" * 64)).write_bytes(b"orphan")
    (state / "state/.desired.json.7.tmp").write_bytes(b"half")
    before = files(state)
    would = store.collect_garbage(dry_run=True)
    assert files(state) == before
    assert would.dry_run
    free = sum(p.stat().st_size for p in (state / "store/blobs/sha256").iterdir())

    did = store.collect_garbage()
    assert (did.items, did.bytes_freed) == (would.items, would.bytes_freed)
    gone = before - files(state)
    assert gone >= own | {"state/.desired.json.7.tmp", "models/zeta", f"store/blobs/sha256/{'0' * 64}"}
    assert {item.place for item in did.items} <= gone
    free -= sum(p.stat().st_size for p in (state / "store/blobs/sha256").iterdir())
    assert did.bytes_freed == free + len(b"half")
    assert store.collect_garbage().items == ()
    assert store.check().problems == ()


def test_pinned_blobs_stay_with_all_that_a_pinned_manifest_names(state: Path, tmp_path: Path) -> None:
    store = Store(state)
    digest = damaged.entry(state, "zeta", "1.0.0")["digest"]
    lone = "f" * 64
    (state / "store/blobs/sha256" / lone).write_bytes(b"a part of a pull")
    pins = {digest, lone}
    store.pin(lambda: pins)
    store.pin(lambda: ["sha256:" + "e" * 64])  # not there (yet)
    before = {p for p in files(state) if p.startswith("store/")}
    store.remove("zeta", "1.0.0")
    assert {p for p in files(state) if p.startswith("store/")} == before
    pins.clear()
    assert store.collect_garbage().bytes_freed > 0
    assert not damaged.blob(state, digest).exists()
    assert not damaged.blob(state, lone).exists()
    assert store.add(folders.make(tmp_path / "z", folders.onnx_toml(name="zeta"))).name == "zeta"


def test_a_pin_that_cannot_be_read_stops_the_collection(state: Path) -> None:
    def pins() -> list[str]:
        raise OSError(5, "the journal cannot be read")

    store = Store(state)
    store._index.drop("zeta", "1.0.0")
    store.pin(pins)
    before = files(state)
    with pytest.raises(OSError, match="journal"):
        store.collect_garbage()
    assert files(state) == before


def test_an_unreadable_manifest_keeps_all_blobs_and_its_view(state: Path) -> None:
    view = damaged.view_of(state, "zeta")
    damaged.flip(damaged.manifest_of(state, "zeta"))
    (state / "store/blobs/sha256" / ("0" * 64)).write_bytes(b"orphan")
    store = Store(state)
    report = store.collect_garbage()
    assert report.items == ()
    (sentence,) = report.kept
    assert sentence.startswith("zeta:1.0.0 has no readable manifest")
    assert view.exists()  # a repair makes the manifest anew out of it
    assert store.repair().problems == ()
    assert {item.kind for item in store.collect_garbage().items} == {"blob"}


def test_what_is_set_aside_goes_only_when_it_is_asked_for(state: Path) -> None:
    store = Store(state)
    (state / "store/index.json.broken").write_bytes(b"evidence")
    (state / "state/desired.json.broken.1").write_bytes(b"evidence")
    damaged.flip(damaged.config_of(state))
    store.repair()
    assert store.check().set_aside == 3
    assert store.collect_garbage().items == ()
    report = store.collect_garbage(set_aside=True)
    assert {item.kind for item in report.items} == {"set-aside"}
    assert report.item_count == 3
    assert store.check().set_aside == 0
    assert store.check().problems == ()


def test_links_and_folders_of_others_are_not_followed(state: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (state / "models/zeta/9.0.0.abcdefabcdef").symlink_to(outside)
    (state / "store/blobs/sha256" / ("0" * 64)).symlink_to(outside / "precious")
    (state / "store/.x.tmp").symlink_to(outside)
    Store(state).collect_garbage(set_aside=True)
    assert (outside / "precious").read_text() == "x"
    assert not (state / "store/blobs/sha256" / ("0" * 64)).is_symlink()


def test_a_view_leaves_its_place_before_it_is_taken_apart(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stuck(_folder: Path) -> None:
        raise OSError(5, "Input/output error")

    view = damaged.view_of(state, "zeta")
    store = Store(state)
    store._index.drop("zeta", "1.0.0")
    with monkeypatch.context() as patched:
        patched.setattr(durable, "remove_tree", stuck)
        with pytest.raises(OSError, match="Input/output"):
            store.collect_garbage()
    assert not view.exists()
    assert "view" in {item.kind for item in store.collect_garbage().items}
    assert not view.parent.exists()
