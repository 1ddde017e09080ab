"""Whether an artefact whose blobs have come over a network is a model that this box takes: the rules of an uploaded folder.

Its bytes are signed and are what their digests say; that they make a model, nobody has said yet.
"""

from typing import NamedTuple, NoReturn

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.model_spec import ModelSpec
from appliance.store import manifest, model_rules, model_toml
from appliance.store.blobs import Blobs
from appliance.store.manifest import ARTIFACT_TYPE, MANIFEST_TYPE, Descriptor


class Adoptable(NamedTuple):
    """A model among the blobs. ``entry``: how an index refers to its manifest."""

    spec: ModelSpec
    layers: tuple[Descriptor, ...]
    entry: Descriptor


def check(data: bytes, name: str, version: str, blobs: Blobs) -> Adoptable:
    """The model of the manifest ``data``, which must be ``name`` in ``version``; all of its blobs are there.

    Raises InvalidArgument with the reason MODEL_TOML or MODEL_FILES.
    """
    try:
        parsed = manifest.parse(data)
    except manifest.BadManifest as error:
        _refuse(name, version, f"has no manifest that can be read: {error}")
    for blob in parsed.blobs:
        if blobs.size(blob.hex) != blob.size:
            _refuse(name, version, f"lacks the blob {blob.digest}, or it has another size")
    by_path = {manifest.file_path(layer): layer for layer in parsed.layers}
    if len(by_path) != len(parsed.layers):
        _refuse(name, version, "names a file twice, or a file without a name")
    for path in by_path:
        if problem := model_rules.path_problem(path):
            _refuse(name, version, f"has the file {path[:100]!r}, which {problem}")
    toml = by_path.get(model_toml.FILE_NAME)
    text = blobs.read(toml) if toml is not None and toml.size <= limits.model_toml_bytes_max else None
    if text is None:
        _refuse(name, version, f"has no {model_toml.FILE_NAME} of at most {limits.model_toml_bytes_max} bytes")
    spec = model_toml.parse(text)
    if (spec.name, spec.version) != (name, version):
        _refuse(name, version, f"is {spec.name[:100]!r} {spec.version[:100]!r} by its own {model_toml.FILE_NAME}")
    _check_files(spec, by_path)
    return Adoptable(spec, parsed.layers, Descriptor(MANIFEST_TYPE, manifest.digest_of(data), len(data), ARTIFACT_TYPE))


def _check_files(spec: ModelSpec, by_path: dict[str, Descriptor]) -> None:
    listed = {file.path for file in spec.files} | {model_toml.FILE_NAME}
    for path in sorted(listed - by_path.keys()):
        _refuse(spec.name, spec.version, f"has no file {path}, which its model.toml lists")
    for path in sorted(by_path.keys() - listed):
        _refuse(spec.name, spec.version, f"has the file {path}, which its model.toml doesn't list")
    for file in spec.files:
        if file.role == "model" and not by_path[file.path].size:
            _refuse(spec.name, spec.version, f"has an empty file {file.path}")
    total = sum(layer.size for layer in by_path.values())
    if total > limits.model_bytes_max:
        _refuse(spec.name, spec.version, f"holds {total} bytes, at most {limits.model_bytes_max} are allowed")


def _refuse(name: str, version: str, what: str) -> NoReturn:
    raise InvalidArgument(f"the artefact of {name}:{version} {what}", reason="MODEL_FILES")
