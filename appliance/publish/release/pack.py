"""A model folder as an OCI artefact, with the model card and the ML-BOM among the files that are signed.

The folder itself is not touched: what is added to it goes into the artefact straight from memory, and the artefact's
model.toml lists it as files of role "doc".
"""

import functools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from appliance import limits
from appliance.errors import AlreadyExists, InvalidArgument
from appliance.model_spec import ModelSpec
from appliance.publish import toml_writer
from appliance.publish.release import bom, card_page, chunks
from appliance.publish.release.upload import Registry
from appliance.registry.sources.failures import Absent
from appliance.store import manifest, model_folder, model_toml
from appliance.store.blobs import Tick, no_tick, sha256_of
from appliance.store.manifest import Artefact, Layer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_READ_BYTES = 1024 * 1024
_GENERATED = (
    "# Made by `appliance publish pack` out of the folder's model.toml, with the documents added to `files`.\n\n"
)


class Plan(NamedTuple):
    """What an artefact is made of. ``made``: files that come from here and not from the folder."""

    root: Path
    spec: ModelSpec
    layers: tuple[Layer, ...]
    made: Mapping[str, bytes]
    artefact: Artefact

    @property
    def bytes(self) -> int:
        """All blobs but the manifest, each once."""
        sizes = {layer.sha256: layer.size for layer in self.layers}
        return sum(sizes.values()) + len(self.artefact.config_bytes)


def plan(root: Path, tick: Tick = no_tick) -> Plan:
    """Reads a folder as a box would, and hashes it. Raises InvalidArgument (MODEL_TOML, MODEL_FILES)."""
    folder = model_folder.read(root)
    spec = folder.spec
    layers = []
    for file in folder.files:
        with model_folder.open_file(root, file.path) as fd:
            layers.append(Layer(file.path, file.role, file.size, sha256_of(fd, tick)))
    made: dict[str, bytes] = {}
    listed = {file.path for file in spec.files if file.role == "doc"}
    if card_page.FILE_NAME not in listed:
        made[card_page.FILE_NAME] = card_page.build(spec)
    if not any(path.endswith(bom.SUFFIX) for path in listed):
        made[bom.FILE_NAME] = b""  # made when all that it lists is known
    for path in made:
        if os.path.lexists(root / path):
            raise InvalidArgument(
                f'{path} is in the folder but not among the files of model.toml: list it there with the role "doc", or '
                "remove it, and one is made",
                reason="MODEL_FILES",
            )
    return _complete(root, spec, layers, made)


def _complete(root: Path, spec: ModelSpec, layers: list[Layer], made: dict[str, bytes]) -> Plan:
    if made:
        with model_folder.open_file(root, model_toml.FILE_NAME) as fd:
            text = os.pread(fd, limits.model_toml_bytes_max + 1, 0)
        toml = with_documents(text, tuple(made))
        spec = model_toml.parse(toml)
        layers[0] = _layer(model_toml.FILE_NAME, model_folder.TOML_ROLE, toml)
        if card_page.FILE_NAME in made:
            layers.append(_layer(card_page.FILE_NAME, "doc", made[card_page.FILE_NAME]))
        if bom.FILE_NAME in made:
            made[bom.FILE_NAME] = bom.build(spec, layers)
            layers.append(_layer(bom.FILE_NAME, "doc", made[bom.FILE_NAME]))
        made[model_toml.FILE_NAME] = toml
    assert [layer.path for layer in layers[1:]] == [file.path for file in spec.files]
    return Plan(root, spec, tuple(layers), made, manifest.build(spec, layers))


def with_documents(toml: bytes, paths: Iterable[str]) -> bytes:
    """model.toml with more files of role "doc". Raises InvalidArgument MODEL_TOML for one that can't be written again."""
    document: dict[str, Any] = tomllib.loads(toml.decode("utf-8-sig"))
    document["files"] = [*document["files"], *({"path": path, "role": "doc"} for path in paths)]
    try:
        text = toml_writer.dumps(document)
        same = tomllib.loads(text) == document
    except (TypeError, ValueError):
        same = False
    if not same:
        raise InvalidArgument(
            f"model.toml can't be written again with {', '.join(paths)} among its files: add these files yourself, with "
            'the role "doc"',
            reason="MODEL_TOML",
        )
    return (_GENERATED + text).encode()


def _layer(path: str, role: str, data: bytes) -> Layer:
    return Layer(path, role, len(data), manifest.digest_of(data).removeprefix("sha256:"))


def put(plan: Plan, layout: Registry, repository: str, *, replace: bool = False, tick: Tick = no_tick) -> None:
    """Writes the artefact under its version as the tag, and its chunk index beside it; the manifest last.

    Raises AlreadyExists VERSION_EXISTS when the version is there with other contents, unless ``replace``.
    """
    version = plan.spec.version
    try:
        there = layout.source.manifest(repository, version, bytes_max=limits.manifest_bytes_max)
    except Absent:
        there = None
    if there is not None and there.digest != plan.artefact.digest and not replace:
        raise AlreadyExists(
            f"{plan.spec.name} {version} is packed already, with other contents: raise the version in model.toml, or "
            "use --replace as long as it is released nowhere",
            reason="VERSION_EXISTS",
        )
    for layer in plan.layers:
        digest = f"sha256:{layer.sha256}"
        if not layout.target.has_blob(repository, digest):
            layout.target.put_blob(repository, digest, layer.size, functools.partial(_chunks, plan, layer, tick))
    config = plan.artefact.manifest.config
    if not layout.target.has_blob(repository, config.digest):
        layout.target.put_blob(repository, config.digest, config.size, lambda: (plan.artefact.config_bytes,))
    chunks.write(layout, repository, version, plan.artefact.manifest, tick)
    layout.target.put_manifest(repository, version, manifest.MANIFEST_TYPE, plan.artefact.manifest_bytes)


def _chunks(plan: Plan, layer: Layer, tick: Tick) -> Iterator[bytes]:
    if layer.path in plan.made:
        yield plan.made[layer.path]
        return
    digest = manifest.new_sha256()
    with model_folder.open_file(plan.root, layer.path) as fd:
        while piece := os.read(fd, _READ_BYTES):
            digest.update(piece)
            tick(len(piece))
            yield piece
    if digest.hexdigest() != layer.sha256:
        raise InvalidArgument(
            f"model folder: file {layer.path} changed while it was read: try again when nothing writes to it",
            reason="MODEL_FILES",
        )
