"""Stores with two models to damage, and ways to find and damage their files as a disk would: under the same inode."""

import json
from pathlib import Path
from typing import Any

from appliance.questions import Desired
from appliance.store.blobs import Tick
from appliance.store.manifest import Descriptor
from appliance.store.store import Store
from appliance.store_questions import StoreReport
from tests.support import model_folders as folders


def prepare(tmp_path: Path) -> Path:
    """A state folder with press 1.0.0 (active) and 2.0.0, which share all files but two, and zeta 1.0.0."""
    state = tmp_path / "state"
    store = Store(state)
    store.add(folders.make(tmp_path / "a"))
    store.add(folders.make(tmp_path / "b", folders.onnx_toml("2.0.0"), **{"model.onnx": b"second"}))
    store.add(folders.make(tmp_path / "c", folders.onnx_toml(name="zeta"), **{"model.onnx": b"third model"}))
    store.set_desired(Desired("press", "1.0.0"))
    return state


def index(state: Path) -> Path:
    return state / "store/index.json"


def entry(state: Path, name: str, version: str) -> dict[str, Any]:
    """The entry of one version in index.json."""
    entries = json.loads(index(state).read_text())["manifests"]
    return next(e for e in entries if e["annotations"]["org.opencontainers.image.ref.name"] == f"{name}:{version}")


def blob(state: Path, digest: str) -> Path:
    return state / "store/blobs/sha256" / digest.removeprefix("sha256:")


def manifest_of(state: Path, name: str = "press", version: str = "1.0.0") -> Path:
    return blob(state, entry(state, name, version)["digest"])


def config_of(state: Path, name: str = "press", version: str = "1.0.0") -> Path:
    return blob(state, json.loads(manifest_of(state, name, version).read_text())["config"]["digest"])


def file_of(state: Path, file: str = "model.onnx", name: str = "press", version: str = "1.0.0") -> Path:
    """The blob of one of a version's files."""
    layers = json.loads(manifest_of(state, name, version).read_text())["layers"]
    return blob(state, next(x["digest"] for x in layers if x["annotations"]["org.cncf.model.filepath"] == file))


def view_of(state: Path, name: str = "press", version: str = "1.0.0") -> Path:
    return state / "models" / name / f"{version}.{entry(state, name, version)['digest'][7:19]}"


def flip(path: Path, place: int = 5) -> None:
    """One bit, in place: all names of the file show it, as on a disk that rots."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    overwrite(path, bytes(data))


def overwrite(path: Path, data: bytes) -> None:
    """Other bytes in the same inode."""
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def digests(state: Path) -> dict[str, str]:
    """What is stored: name:version and digest, as a store that is opened now sees it."""
    return {f"{m.name}:{m.version}": m.digest for m in Store(state).versions()}


def told(report: StoreReport) -> list[tuple[str, str]]:
    """Kinds and files of all problems."""
    return [(problem.kind, problem.file) for problem in report.problems]


def blobs_of(state: Path) -> dict[str, bytes]:
    """All blobs by their digests, as a registry would have them."""
    return {"sha256:" + path.name: path.read_bytes() for path in (state / "store/blobs/sha256").iterdir()}


def fetch_from(store: Store, state: Path, originals: dict[str, bytes], asked: list[str]) -> None:
    """Lets the store fetch what it lacks from a registry that has ``originals``; ``asked``: for what it was asked."""

    def fetch(wanted: Descriptor, names: frozenset[str], tick: Tick) -> bool:
        digest, size = wanted.digest, wanted.size
        assert names
        tick(0)
        asked.append(digest)
        data = originals.get(digest, b"")
        assert len(data) in (0, size)
        if data:
            temp = blob(state, digest).with_name(".fetched.tmp")
            temp.write_bytes(data)
            temp.chmod(0o444)
            temp.replace(blob(state, digest))
        return bool(data)

    store.heal_with(fetch)


def break_link(path: Path) -> None:
    """The same bytes in another inode."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)
