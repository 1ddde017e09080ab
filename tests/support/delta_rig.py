"""A machine that has one version of a model and is brought the next one over HTTP, with a chunk index or without."""

from pathlib import Path

from delta_box import MIB, entry_of, gguf_like, noise
from registry_simulator import RegistrySimulator

from appliance.clock import SystemClock
from appliance.config import RegistryConfig
from appliance.registry.delta import index
from appliance.registry.loop.errands import Brought, Errands
from appliance.registry.pull.artefact import Places
from appliance.registry.release import Chunks, Release
from appliance.store import manifest
from appliance.store.store import Store
from tests.support import model_folders as folders

PLACE = "acme/models/press"
BODY = noise(2, 6 * MIB)
OLD = gguf_like(b"an old name", BODY)
NEW = gguf_like(b"another name, which is longer than the old one was", BODY)


class Headquarters:
    """Releases to a registry. ``index_data``: what it says about chunks next."""

    def __init__(self, folder: Path, registry: RegistrySimulator) -> None:
        self.registry = registry
        self._folder = folder
        self._shop = Store(folder / "shop")

    def release(self, version: str, weights: bytes, index_data: bytes | None = None, line: str = "press") -> Release:
        """``index_data``: another index than the right one; b"" none at all."""
        root = self._folder / f"{line}-{version}"
        model = self._shop.add(folders.make(root, folders.onnx_toml(version, line), **{"model.onnx": weights}))
        data = self._shop.blobs.path(model.digest[7:]).read_bytes()
        parsed = manifest.parse(data)
        self.registry.add_manifest(PLACE, version, data)
        for blob in (parsed.config, *parsed.layers):
            self.registry.add_blob(PLACE, self._shop.blobs.path(blob.hex).read_bytes())
        said = index.encode([entry_of(weights)]) if index_data is None else index_data
        chunks = Chunks(self.registry.add_blob(PLACE, said), len(said)) if said else None
        size = sum(blob.size for blob in (parsed.config, *parsed.layers))
        return Release(line, version, PLACE, model.digest, len(data), size, 1, 1, chunks=chunks)


class Machine:
    """``shown``: how far it said it is, in order."""

    def __init__(self, folder: Path, url: str) -> None:
        self.state = folder / "box"
        self.store = Store(self.state)
        self.places = Places(self.state, self.store.blobs)
        config = RegistryConfig(url=url, prefix="acme")
        self.shown: list[int] = []
        self.errands = Watched(config, self.state, self.places, SystemClock(), lambda: self.store.refs)
        self.errands.watch(self.shown)

    def bring(self, release: Release) -> Brought:
        """And takes it into the store."""
        self.shown.clear()
        brought = self.errands.bring(release)
        self.store.adopt(release.line, release.version, brought.data)
        self.errands.adopted()
        return brought

    def holds(self, release: Release, weights: bytes) -> bool:
        """Whether the version is here, its weights these."""
        view = Path(self.store.get(release.line, release.version).folder)
        return (view / "model.onnx").read_bytes() == weights and not self.store.check().problems

    @property
    def partial(self) -> list[str]:
        return sorted(path.name for path in self.places.partial.iterdir())


class Watched(Errands):
    """``stop_at``: it is cancelled when so many bytes are there."""

    stop_at = -1

    def watch(self, shown: list[int]) -> None:
        self._shown = shown

    def _progress(self, done: int, total: int) -> None:
        super()._progress(done, total)
        self._shown.append(done)
        if 0 <= self.stop_at <= done:
            self.cancel()
