"""Artefacts that came over a network: taken as an uploaded folder would be, refused for the same reasons."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from appliance.clock import FakeClock
from appliance.errors import AlreadyExists, ApplianceError, InvalidArgument
from appliance.osutil import faults
from appliance.store import manifest
from appliance.store.blobs import Blobs
from appliance.store.manifest import FILE_PATH, Descriptor, Manifest
from appliance.store.store import Store
from tests.support import model_folders as folders


class Registry:
    """The artefacts of folders, taken out of a store of their own."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.store = Store(tmp_path / "registry", FakeClock())

    def release(self, version: str = "1.0.0", name: str = "press", **files: bytes) -> bytes:
        root = self.folder / f"folder-{name}-{version}-{len(files)}"
        model = self.store.add(folders.make(root, folders.onnx_toml(version, name), **files))
        return self.store.blobs.path(model.digest[7:]).read_bytes()

    def carry(self, data: bytes, blobs: Blobs) -> None:
        """What a pull does: all blobs but the manifest."""
        parsed = manifest.parse(data)
        for blob in (parsed.config, *parsed.layers):
            blobs.put(self.store.blobs.path(blob.hex).read_bytes())


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


@pytest.fixture
def box(tmp_path: Path) -> Store:
    return Store(tmp_path / "box", FakeClock())


def test_an_adopted_model_is_as_an_added_one(registry: Registry, box: Store) -> None:
    data = registry.release()
    registry.carry(data, box.blobs)
    model = box.adopt("press", "1.0.0", data)
    added = registry.store.get("press")
    assert (model.digest, model.size_bytes, model.spec) == (added.digest, added.size_bytes, added.spec)
    assert sorted(p.name for p in Path(model.folder).iterdir()) == sorted(p.name for p in Path(added.folder).iterdir())
    assert box.adopt("press", "1.0.0", data) == model
    assert Store(box._state, FakeClock()).versions() == (model,)
    box.sweep()
    assert box.check().problem_count == 0


def changed(data: bytes, change: Callable[[Manifest], Manifest]) -> bytes:
    return manifest.canonical(change(manifest.parse(data)))


def renamed(layer: Descriptor, path: str) -> Descriptor:
    return msgspec.structs.replace(layer, annotations={FILE_PATH: path})


def layers(*change: Callable[[tuple[Descriptor, ...]], tuple[Descriptor, ...]]) -> Callable[[bytes], bytes]:
    def spoil(data: bytes) -> bytes:
        return changed(data, lambda m: msgspec.structs.replace(m, layers=change[0](m.layers)))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda _: b"{", "no manifest"),
        (lambda _: b"[]", "no manifest"),
        (layers(lambda found: found[1:]), "no model.toml"),
        (layers(lambda found: found[:-1]), "which its model.toml lists"),
        (layers(lambda found: (*found, renamed(found[1], "more.bin"))), "doesn't list"),
        (layers(lambda found: (*found, found[1])), "a file twice"),
        (layers(lambda found: (*found[:-1], renamed(found[-1], "../../etc/passwd"))), "which"),
        (layers(lambda found: (*found[:-1], renamed(found[-1], "/etc/passwd"))), "is absolute"),
        (layers(lambda found: (*found[:-1], renamed(found[-1], ""))), "which"),
        (layers(lambda found: (*found[:-1], msgspec.structs.replace(found[-1], size=5))), "another size"),
        (layers(lambda found: (*found[:-1], msgspec.structs.replace(found[-1], digest="sha256:" + "0" * 64))), "lacks"),
        (layers(lambda found: (renamed(found[1], "model.toml"), *found[2:])), "model.toml"),
    ],
)
def test_an_artefact_that_is_no_model(
    registry: Registry, box: Store, spoil: Callable[[bytes], bytes], words: str
) -> None:
    data = registry.release()
    registry.carry(data, box.blobs)
    with pytest.raises(InvalidArgument, match=words) as caught:
        box.adopt("press", "1.0.0", spoil(data))
    assert caught.value.reason in ("MODEL_FILES", "MODEL_TOML")
    assert box.versions() == ()
    box.sweep()
    assert list(box.blobs.names()) == []


@pytest.mark.parametrize(("name", "version"), [("press", "2.0.0"), ("other", "1.0.0")])
def test_a_model_of_another_name_or_version(registry: Registry, box: Store, name: str, version: str) -> None:
    data = registry.release()
    registry.carry(data, box.blobs)
    with pytest.raises(InvalidArgument, match=r"by its own model\.toml"):
        box.adopt(name, version, data)
    assert box.versions() == ()


def test_an_empty_model_file(registry: Registry, box: Store, tmp_path: Path) -> None:
    data = registry.release()
    registry.carry(data, box.blobs)
    empty = Descriptor("x/y", manifest.digest_of(b""), 0, annotations={FILE_PATH: "model.onnx"})
    box.blobs.put(b"")
    with pytest.raises(InvalidArgument, match=r"an empty file model\.onnx"):
        box.adopt("press", "1.0.0", layers(lambda found: (found[0], empty, *found[2:]))(data))


def test_other_content_of_a_version_is_refused(registry: Registry, box: Store, tmp_path: Path) -> None:
    box.add(folders.make(tmp_path / "by-hand", folders.onnx_toml("1.0.0", "press"), **{"model.onnx": b"by hand"}))
    data = registry.release()
    registry.carry(data, box.blobs)
    with pytest.raises(AlreadyExists, match="with other content"):
        box.adopt("press", "1.0.0", data)


def test_a_pull_under_way_is_pinned(registry: Registry, box: Store) -> None:
    data = registry.release()
    registry.carry(data, box.blobs)
    wanted = {blob.digest for blob in (manifest.parse(data).config, *manifest.parse(data).layers)}
    box.pin(lambda: wanted)
    box.sweep()
    assert box.adopt("press", "1.0.0", data).name == "press"


POINTS = ["store.blob.write", "store.blob.rename", "store.view.build", "store.view.link", "store.view.rename",
          "store.index.write", "store.index.fsync", "store.index.rename"]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("action", ["enospc", "eio"])
def test_a_disk_that_fails_leaves_nothing_half(registry: Registry, box: Store, point: str, action: str) -> None:
    data = registry.release()
    registry.carry(data, box.blobs)
    faults.arm(f"{point}={action}@1")
    try:
        with pytest.raises((OSError, ApplianceError)):
            box.adopt("press", "1.0.0", data)
    finally:
        faults.arm("")
    assert box.versions() == ()
    assert box.adopt("press", "1.0.0", data).version == "1.0.0"
    assert box.check().problem_count == 0


_KILLED = """
import sys
from pathlib import Path
from appliance.store.store import Store
Store(Path(sys.argv[1])).adopt("press", "1.0.0", Path(sys.argv[2]).read_bytes())
"""


@pytest.mark.parametrize("point", [*POINTS, "store.blob.folder", "store.index.folder"])
def test_a_kill_leaves_nothing_or_all(registry: Registry, box: Store, tmp_path: Path, point: str) -> None:
    data = registry.release()
    registry.carry(data, box.blobs)
    (tmp_path / "manifest").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path / "box"), str(tmp_path / "manifest")],
        env={"APPLIANCE_FAULTS": f"{point}=kill"},
        timeout=60,
        check=False,
    )
    assert done.returncode == -9
    after = Store(tmp_path / "box", FakeClock())
    after.pin(lambda: [blob.digest for blob in (manifest.parse(data).config, *manifest.parse(data).layers)])
    after.sweep()
    assert [m.version for m in after.versions()] in ([], ["1.0.0"])
    assert after.adopt("press", "1.0.0", data).version == "1.0.0"
    assert after.check().problem_count == 0
