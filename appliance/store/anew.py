"""A model's manifest and config made once more out of its other files. Whoever asks compares the digests."""

import contextlib
from pathlib import Path

from appliance import limits
from appliance.errors import ApplianceError
from appliance.store import manifest, model_folder, model_toml
from appliance.store.blobs import Blobs, Tick, sha256_of
from appliance.store.manifest import Artefact, Layer, Manifest


def from_layers(parsed: Manifest, blobs: Blobs) -> Artefact | None:
    """For the config: what the manifest says of the files is enough. None when model.toml can't be read."""
    text = next((x for x in parsed.layers if manifest.file_path(x) == model_toml.FILE_NAME), None)
    data = blobs.read(text) if text and text.size <= limits.model_toml_bytes_max else None
    if data is None:
        return None
    layers = [Layer(manifest.file_path(layer), "", layer.size, layer.hex) for layer in parsed.layers]
    with contextlib.suppress(ApplianceError):
        return manifest.build(model_toml.parse(data), layers)
    return None


def from_view(view: Path, tick: Tick) -> Artefact | None:
    """For the manifest: all files are hashed. None when the view is no model folder. Raises OSError."""
    with contextlib.suppress(ApplianceError):
        folder = model_folder.read(view)
        layers = []
        for file in folder.files:
            with model_folder.open_file(view, file.path) as fd:
                layers.append(Layer(file.path, file.role, file.size, sha256_of(fd, tick)))
        return manifest.build(folder.spec, layers)
    return None
