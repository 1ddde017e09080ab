"""Taking a model folder's files into the blobs: first a plan (everything hashed, nothing written), then the doing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from appliance.errors import InvalidArgument
from appliance.store import manifest, model_folder
from appliance.store.blobs import Blobs, sha256_of
from appliance.store.manifest import Artefact, Layer
from appliance.store.model_folder import ModelFolder

# Called with (bytes hashed, bytes of the model); at least once for every MiB read or written.
Progress = Callable[[int, int], None]

# Manifest, config, index, folders, and the blocks of a file system that each takes.
_SMALL_FILES_BYTES = 256 * 1024
_BLOCK_BYTES = 4096


def no_progress(_done: int, _total: int) -> None:
    """For callers that don't show it."""


class Plan(NamedTuple):
    """What storing a folder takes. ``missing``: the layers whose blobs must be made, one for each digest."""

    folder: ModelFolder
    artefact: Artefact
    missing: tuple[Layer, ...]
    consume: bool
    needed_bytes: int


def plan(root: Path, blobs: Blobs, *, consume: bool, progress: Progress = no_progress) -> Plan:
    """Reads and hashes the folder. Raises InvalidArgument (MODEL_TOML, MODEL_FILES)."""
    folder = model_folder.read(root)
    meter = _Meter(progress, folder.size_bytes)
    layers = []
    for file in folder.files:
        with model_folder.open_file(root, file.path) as fd:
            layers.append(Layer(file.path, file.role, file.size, sha256_of(fd, meter.count)))
    distinct = {layer.sha256: layer for layer in layers}.values()
    missing = tuple(layer for layer in distinct if not blobs.holds(layer.sha256, layer.size, meter.beat))
    # Giving a file a second name takes no room, where that is possible.
    moved = consume and root.stat().st_dev == blobs.folder.stat().st_dev
    copied = 0 if moved else sum(layer.size + _BLOCK_BYTES for layer in missing)
    artefact = manifest.build(folder.spec, layers)
    needed = copied + len(artefact.manifest_bytes) + len(artefact.config_bytes) + _SMALL_FILES_BYTES
    return Plan(folder, artefact, missing, consume, needed)


def carry_out(plan: Plan, blobs: Blobs, progress: Progress = no_progress) -> None:
    """Makes the missing blobs, the manifest last. Raises OSError, or InvalidArgument when a file changed meanwhile."""
    meter = _Meter(progress, plan.folder.size_bytes)
    meter.done = meter.total
    for layer in plan.missing:
        if not (plan.consume and _take(plan.folder.root, layer, blobs, meter)):
            _copy(plan.folder.root, layer, blobs, meter)
    blobs.put(plan.artefact.config_bytes)
    blobs.put(plan.artefact.manifest_bytes)


def _take(root: Path, layer: Layer, blobs: Blobs, meter: "_Meter") -> bool:
    with model_folder.open_file(root, layer.path, os.O_RDWR) as fd:
        return blobs.take(root / layer.path, fd, layer.sha256, meter.beat)


def _copy(root: Path, layer: Layer, blobs: Blobs, meter: "_Meter") -> None:
    with model_folder.open_file(root, layer.path) as fd:
        if not blobs.copy(fd, layer.sha256, meter.beat):
            raise InvalidArgument(
                f"model folder: file {layer.path} changed while it was read: try again when nothing writes to it",
                reason="MODEL_FILES",
            )


class _Meter:
    """Counts hashed bytes for a progress display."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self.total = total
        self.done = 0

    def count(self, count: int) -> None:
        """``count`` more bytes are hashed."""
        self.done += count
        self._progress(self.done, self.total)

    def beat(self, _count: int) -> None:
        """Work that isn't counted, but shows life."""
        self._progress(self.done, self.total)
