"""The store: adding, finding, removing, and what it does with its own corruption."""

import json
import logging
import os
from pathlib import Path

import pytest

from appliance.clock import FakeClock
from appliance.errors import AlreadyExists, ApplianceError, FailedPrecondition, InvalidArgument, NotFound
from appliance.osutil import durable
from appliance.questions import Desired
from appliance.store import manifest
from appliance.store.store import Store
from tests.support import model_folders as folders


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def folder(tmp_path: Path, version: str = "1.0.0", name: str = "press", **files: bytes) -> Path:
    root = tmp_path / f"in-{name}-{version}-{len(list(tmp_path.iterdir()))}"
    return folders.make(root, folders.onnx_toml(version, name), **files)


def blobs(state: Path) -> set[str]:
    return {p.name for p in (state / "store/blobs/sha256").iterdir()}


def names(store: Store) -> list[tuple[str, str]]:
    return [(m.name, m.version) for m in store.versions()]


# --- add -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consume", [False, True])
def test_an_added_folder_is_an_oci_layout_and_a_view(tmp_path: Path, state: Path, consume: bool) -> None:
    root = folder(tmp_path)
    model = Store(state, FakeClock()).add(root, consume=consume)

    assert json.loads((state / "store/oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((state / "store/index.json").read_text())
    (entry,) = index["manifests"]
    assert index["schemaVersion"] == 2
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "press:1.0.0"
    assert entry["digest"] == model.digest
    stored = json.loads((state / "store/blobs/sha256" / entry["digest"][7:]).read_text())
    assert stored["schemaVersion"] == 2
    assert stored["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert [
        (x["annotations"]["org.cncf.model.filepath"], x["mediaType"].split("model.")[1]) for x in stored["layers"]
    ] == [
        ("model.toml", "weight.config.v1.raw"),
        ("model.onnx", "weight.v1.raw"),
        ("weights/big.bin", "weight.v1.raw"),
        ("labels.txt", "weight.config.v1.raw"),
        ("golden/x.npy", "weight.config.v1.raw"),
        ("README.md", "doc.v1.raw"),
    ]
    config = json.loads((state / "store/blobs/sha256" / stored["config"]["digest"][7:]).read_text())
    assert config["config"] == {"format": "onnx"}
    assert config["modelfs"] == {"type": "layers", "diffIds": [x["digest"] for x in stored["layers"]]}
    for name in blobs(state):
        path = state / "store/blobs/sha256" / name
        assert manifest.digest_of(path.read_bytes()) == "sha256:" + name
        assert path.stat().st_mode & 0o777 == 0o444

    view = Path(model.folder)
    assert view == state / "models/press" / f"1.0.0.{model.digest[7:19]}"
    assert (view / "weights/big.bin").read_bytes() == folders.CONTENT["weights/big.bin"]
    assert (view / "model.onnx").stat().st_mode & 0o777 == 0o444
    assert model.spec.model_path == "model.onnx"
    assert model.size_bytes == sum(x["size"] for x in stored["layers"])
    assert model.added_ms == 1_700_000_000_000
    assert Store(state).versions() == (model,)


def test_consuming_gives_the_same_file_another_name_and_copying_does_not(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    taken, copied = folder(tmp_path), folder(tmp_path, name="other", **{"model.onnx": b"another"})
    inode = (taken / "model.onnx").stat().st_ino
    view = Path(store.add(taken, consume=True).folder)
    assert (view / "model.onnx").stat().st_ino == inode
    view = Path(store.add(copied).folder)
    (copied / "model.onnx").write_bytes(b"changed later")
    assert (view / "model.onnx").read_bytes() == b"another"


def test_a_file_that_has_another_name_elsewhere_is_copied_even_when_consumed(tmp_path: Path, state: Path) -> None:
    root = folder(tmp_path)
    os.link(root / "model.onnx", tmp_path / "mine")
    view = Path(Store(state).add(root, consume=True).folder)
    (tmp_path / "mine").write_bytes(b"changed later")
    assert (view / "model.onnx").read_bytes() == b"onnx bytes"


def test_the_same_files_give_the_same_digest_anywhere(tmp_path: Path) -> None:
    first = Store(tmp_path / "a").add(folder(tmp_path))
    second = Store(tmp_path / "b", FakeClock(wall_ns=1)).add(folder(tmp_path), consume=True)
    assert first.digest == second.digest


def test_equal_files_are_stored_once(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    store.add(folder(tmp_path))
    before = blobs(state)
    store.add(folder(tmp_path, "1.0.1"))
    # model.toml, config and manifest are new; five files are not.
    assert len(blobs(state) - before) == 3
    twins = store.add(folder(tmp_path, name="twins", **{"model.onnx": b"same", "README.md": b"same"}))
    assert (Path(twins.folder) / "README.md").read_bytes() == b"same"


def test_adding_the_same_again_changes_nothing(tmp_path: Path, state: Path) -> None:
    store = Store(state, FakeClock(wall_ns=5_000_000))
    first = store.add(folder(tmp_path))
    index = (state / "store/index.json").read_bytes()
    again = Store(state, FakeClock(wall_ns=9_000_000))
    assert again.add(folder(tmp_path, extra=b"not listed"), consume=True) == first
    assert (state / "store/index.json").read_bytes() == index


def test_other_content_under_the_same_version_is_refused_and_leaves_the_old(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    old = store.add(folder(tmp_path))
    before = blobs(state)
    with pytest.raises(AlreadyExists, match="raise the version number") as caught:
        store.add(folder(tmp_path, **{"model.onnx": b"other"}))
    assert caught.value.reason == "VERSION_EXISTS"
    assert store.versions() == (old,)
    assert blobs(state) == before


def test_a_bad_folder_leaves_nothing(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    root = folder(tmp_path)
    (root / "labels.txt").unlink()
    with pytest.raises(InvalidArgument):
        store.add(root)
    assert blobs(state) == set()
    assert store.versions() == ()


def test_a_file_that_changes_between_hashing_and_copying_is_refused(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    root = folder(tmp_path)

    def progress(done: int, total: int) -> None:
        if done == total:
            (root / "model.onnx").write_bytes(b"ONNX bytes")

    with pytest.raises(InvalidArgument, match=r"model\.onnx changed while it was read"):
        store.add(root, progress=progress)
    assert store.versions() == ()


def test_progress_counts_every_byte_and_never_goes_back(tmp_path: Path, state: Path) -> None:
    root = folder(tmp_path, **{"model.onnx": bytes(3_000_000)})
    seen: list[tuple[int, int]] = []
    model = Store(state).add(root, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {model.size_bytes}
    assert seen[-1][0] == model.size_bytes
    assert len([done for done, _ in seen if done < 3_000_000]) >= 2


# --- get, desired, remove --------------------------------------------------------------------------------------------


def test_get_finds_the_active_or_else_the_newest(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    for version in ("1.10.0", "1.9.0", "1.10.0-rc.1"):
        store.add(folder(tmp_path, version))
    assert [v for _, v in names(store)] == ["1.9.0", "1.10.0-rc.1", "1.10.0"]
    assert store.get("press").version == "1.10.0"
    store.set_desired(Desired("press", "1.9.0"))
    assert store.get("press").version == "1.9.0"
    assert store.get("press", "1.10.0-rc.1").version == "1.10.0-rc.1"


def test_what_is_not_stored_is_not_found_and_near_names_are_named(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    with pytest.raises(NotFound, match=r'no model "press" is stored here$'):
        store.get("press")
    store.add(folder(tmp_path))
    with pytest.raises(NotFound, match="did you mean press"):
        store.get("pres")
    with pytest.raises(NotFound, match=r'no version "2\.0\.0" here; stored: 1\.0\.0'):
        store.get("press", "2.0.0")
    for name, version in (("pres", "1.0.0"), ("press", "2.0.0"), ("press", "")):
        with pytest.raises(NotFound):
            store.remove(name, version)
    for desired in (Desired("pres", "1.0.0"), Desired("press", "2.0.0"), Desired("press", "1.0.0", ("3.0.0",))):
        with pytest.raises(NotFound):
            store.set_desired(desired)
    assert store.desired() == ()


def test_desired_lasts_and_an_empty_one_is_forgotten(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    for name in ("press", "belt"):
        for version in ("1.0.0", "1.1.0"):
            store.add(folder(tmp_path, version, name))
        store.set_desired(Desired(name, "1.0.0", ("1.1.0",), "1.1.0"))
    belt, press = (Desired(name, "1.0.0", ("1.1.0",), "1.1.0") for name in ("belt", "press"))
    assert Store(state).desired() == (belt, press)
    store.set_desired(Desired("belt"))
    store.set_desired(Desired("belt"))
    assert Store(state).desired() == (press,)


@pytest.mark.parametrize("desired", [Desired("press", "1.0.0"), Desired("press", "1.1.0", ("1.0.0",))])
def test_a_version_that_should_run_is_not_removed(tmp_path: Path, state: Path, desired: Desired) -> None:
    store = Store(state)
    store.add(folder(tmp_path))
    store.add(folder(tmp_path, "1.1.0"))
    store.set_desired(desired)
    with pytest.raises(FailedPrecondition, match="deactivate it first") as caught:
        store.remove("press", "1.0.0")
    assert caught.value.reason == "MODEL_IN_USE"
    assert len(store.versions()) == 2


def test_removing_frees_what_only_that_version_had(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    kept = store.add(folder(tmp_path))
    before = blobs(state)
    gone = store.add(folder(tmp_path, "1.0.1", **{"model.onnx": b"new weights"}))
    store.remove("press", "1.0.1")
    assert blobs(state) == before
    assert not Path(gone.folder).exists()
    assert (Path(kept.folder) / "model.onnx").read_bytes() == b"onnx bytes"
    assert Store(state).versions() == (kept,)
    store.remove("press", "1.0.0")
    assert blobs(state) == set()
    assert list((state / "models").iterdir()) == []


def test_a_sweep_takes_left_overs_and_nothing_that_is_used(tmp_path: Path, state: Path) -> None:
    store = Store(state)
    model = store.add(folder(tmp_path))
    used = blobs(state)
    layout = state / "store"
    (layout / "blobs/sha256" / ("0" * 64)).write_bytes(b"orphan")
    (layout / "blobs/sha256" / f".{'1' * 64}.7.tmp").write_bytes(b"half")
    (layout / ".index.json.7.tmp").write_bytes(b"half")
    (state / "state/.desired.json.7.tmp").write_bytes(b"half")
    (state / "models/press/.1.0.0.aaa.7.tmp/weights").mkdir(parents=True)
    (state / "models/gone/9.0.0.abcdefabcdef").mkdir(parents=True)
    (layout / "index.json.broken").write_bytes(b"evidence")
    store.sweep()
    assert blobs(state) == used
    assert sorted(p.name for p in (state / "models/press").iterdir()) == [Path(model.folder).name]
    assert not (state / "models/gone").exists()
    assert (layout / "index.json.broken").exists()
    assert not [p for p in state.rglob("*") if durable.is_temp(p.name)]
    assert (Path(model.folder) / "weights/big.bin").exists()


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda f: f.write_bytes(b""),
        lambda f: f.write_bytes(b"\x00" * 512),
        lambda f: f.write_bytes(f.read_bytes()[:-10]),
        lambda f: f.write_bytes(b"[" * 100_000),
        lambda f: f.write_bytes(f.read_bytes().replace(b'"schemaVersion":2', b'"schemaVersion":3')),
        lambda f: f.write_bytes(f.read_bytes().replace(b"press:1.0.0", b"press")),
        lambda f: f.write_bytes(f.read_bytes().replace(b"sha256:", b"md5:")),
        Path.unlink,
    ],
)
def test_a_corrupt_index_is_set_aside_and_rebuilt(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture, spoil: object
) -> None:
    store = Store(state)
    store.add(folder(tmp_path))
    store.add(folder(tmp_path, "1.0.1"))
    store.set_desired(Desired("press", "1.0.0"))
    before = [(m.name, m.version, m.digest) for m in store.versions()]
    index = state / "store/index.json"
    spoil(index)
    was = index.read_bytes() if index.exists() else None

    again = Store(state)
    assert [(m.name, m.version, m.digest) for m in again.versions()] == before
    assert again.desired() == (Desired("press", "1.0.0"),)
    assert "press:1.0.0, press:1.0.1" in caplog.text
    if was is not None:
        assert (state / "store/index.json.broken").read_bytes() == was
    again.sweep()
    assert [(m.name, m.version, m.digest) for m in Store(state).versions()] == before


def test_a_second_corruption_does_not_overwrite_the_first(tmp_path: Path, state: Path) -> None:
    for text in ("first", "second"):
        Store(state)
        (state / "store/index.json").write_text(text)
    Store(state)
    assert (state / "store/index.json.broken").read_text() == "first"
    assert (state / "store/index.json.broken.1").read_text() == "second"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format":2,"desired":[]}', '{"format":1,"desired":[{"nme":1}]}'])
def test_a_corrupt_desired_is_set_aside_and_taken_from_its_copy(tmp_path: Path, state: Path, text: str) -> None:
    store = Store(state)
    store.add(folder(tmp_path))
    store.set_desired(Desired("press", "1.0.0"))
    (state / "state/desired.json").write_text(text)
    assert Store(state).desired() == (Desired("press", "1.0.0"),)
    assert (state / "state/desired.json.broken").read_text() == text
    assert Store(state).desired() == (Desired("press", "1.0.0"),)


def test_when_both_copies_of_desired_are_corrupt_the_store_opens(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(state)
    store.add(folder(tmp_path))
    store.set_desired(Desired("press", "1.0.0"))
    for name in ("desired.json", "desired.copy.json"):
        (state / "state" / name).write_text("{")
    again = Store(state)
    assert again.desired() == ()
    assert len(again.versions()) == 1
    assert "activate the models again" in caplog.text


def test_a_missing_or_changed_view_is_built_again(tmp_path: Path, state: Path) -> None:
    model = Store(state).add(folder(tmp_path))
    view = Path(model.folder)
    (view / "weights/big.bin").unlink()
    (view / "model.onnx").unlink()
    (view / "model.onnx").write_bytes(b"something else")
    assert Store(state).versions() == (model,)
    assert (view / "weights/big.bin").read_bytes() == folders.CONTENT["weights/big.bin"]
    assert (view / "model.onnx").read_bytes() == b"onnx bytes"


def _largest(state: Path) -> Path:
    return max((state / "store/blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)


def _manifest(state: Path) -> Path:
    index = json.loads((state / "store/index.json").read_text())
    return state / "store/blobs/sha256" / index["manifests"][0]["digest"][7:]


def _toml(state: Path) -> Path:
    layers = json.loads(_manifest(state).read_text())["layers"]
    return state / "store/blobs/sha256" / layers[0]["digest"][7:]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("which", "spoil"),
    [(_largest, Path.unlink), (_manifest, Path.unlink), (_manifest, _flip), (_toml, _flip), (_toml, Path.unlink)],
)
def test_a_damaged_version_is_left_out_and_an_add_repairs_it(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture, which: object, spoil: object
) -> None:
    store = Store(state)
    model = store.add(folder(tmp_path))
    other = store.add(folder(tmp_path, name="zeta", **dict.fromkeys(folders.CONTENT, b"zeta")))
    spoil(which(state))
    again = Store(state)
    assert again.versions() == (other,)
    assert "press:1.0.0 is damaged" in caplog.text
    again.sweep()
    assert again.add(folder(tmp_path)) == model
    assert Store(state).versions() == (model, other)


def test_a_blob_whose_bytes_decayed_is_replaced_when_the_model_comes_again(
    tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(state)
    model = store.add(folder(tmp_path))
    _flip(_largest(state))
    store.add(folder(tmp_path))
    assert (Path(model.folder) / "weights/big.bin").read_bytes() == folders.CONTENT["weights/big.bin"]
    assert "has decayed" in caplog.text


def test_a_damaged_version_can_be_removed(tmp_path: Path, state: Path) -> None:
    Store(state).add(folder(tmp_path))
    _manifest(state).unlink()
    store = Store(state)
    store.sweep()
    assert blobs(state) != set()
    store.remove("press", "1.0.0")
    assert blobs(state) == set()


@pytest.mark.parametrize("path", ["../../escape", "/tmp/escape", "a/../../b", ""])
def test_a_manifest_whose_files_leave_the_view_is_not_served(tmp_path: Path, state: Path, path: str) -> None:
    Store(state).add(folder(tmp_path))
    data = json.loads(_manifest(state).read_text())
    data["layers"][1]["annotations"]["org.cncf.model.filepath"] = path
    forged = manifest.canonical(data)
    (state / "store/blobs/sha256" / manifest.digest_of(forged)[7:]).write_bytes(forged)
    index = json.loads((state / "store/index.json").read_text())
    index["manifests"][0].update(digest=manifest.digest_of(forged), size=len(forged))
    (state / "store/index.json").write_text(json.dumps(index))
    assert Store(state).versions() == ()


def test_no_message_to_a_client_holds_a_path(tmp_path: Path, state: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    store = Store(state)
    store.add(folder(tmp_path))
    calls = [
        lambda: store.get("x"),
        lambda: store.remove("press", "9.9.9"),
        lambda: store.add(tmp_path / "missing"),
        lambda: store.add(folder(tmp_path, **{"model.onnx": b"new"})),
    ]
    for call in calls:
        with pytest.raises(ApplianceError) as caught:
            call()
        assert str(tmp_path) not in caught.value.message
