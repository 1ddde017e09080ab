"""A CycloneDX 1.6 ML-BOM of a model: what it is made of, by hash, and what its card says.

Format: ECMA-424 / CycloneDX 1.6 JSON, component type "machine-learning-model" with a modelCard. The same folder gives the
same bytes: no time, and a serial number made out of the contents.
"""

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any

from appliance.model_spec import Card, ModelSpec
from appliance.store.manifest import Layer

FILE_NAME = "ml-bom.cdx.json"
SUFFIX = ".cdx.json"
# Any UUID does, as long as it stays the same.
_SPACE = uuid.UUID("7b0e1c6e-3f0c-5c55-9d8c-0f6f2a3f8a41")
_FAMILIES = {"llama": "decoder or encoder transformer (GGUF)", "onnx": "ONNX graph", "fake": "fake"}
# What a card calls its source may be any text. An address has no spaces, and none of what RFC 3987 keeps out.
_ADDRESS = re.compile(r"https?://[^\s<>\"{}|\\^`]+")
# SPDX identifiers that `license.id` may hold; every other text is a name.
_SPDX = frozenset(
    [
        "Apache-2.0",
        "MIT",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MPL-2.0",
        "GPL-2.0-only",
        "GPL-3.0-only",
        "GPL-3.0-or-later",
        "LGPL-3.0-only",
        "AGPL-3.0-only",
        "CC0-1.0",
        "CC-BY-4.0",
        "CC-BY-SA-4.0",
        "CC-BY-NC-4.0",
        "EUPL-1.2",
        "Unlicense",
    ]
)


def build(spec: ModelSpec, layers: Sequence[Layer]) -> bytes:
    """The document for a model with these files, of which it is not one itself."""
    component = _model(spec, layers)
    files = [_file(layer) for layer in sorted(layers)]
    document: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component},
        "components": files,
        "dependencies": [
            {"ref": component["bom-ref"], "dependsOn": [file["bom-ref"] for file in files]},
            *({"ref": file["bom-ref"]} for file in files),
        ],
    }
    contents = json.dumps(document, sort_keys=True)
    document["serialNumber"] = f"urn:uuid:{uuid.uuid5(_SPACE, contents)}"
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _model(spec: ModelSpec, layers: Sequence[Layer]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{spec.name}@{spec.version}",
        "name": spec.name,
        "version": spec.version,
        "hashes": [_hash(layer) for layer in layers if layer.path == spec.model_path],
        "licenses": [{"license": _licence(spec.card.licence)}],
        "modelCard": _card(spec),
    }
    if spec.card.description:
        found["description"] = spec.card.description
    if _ADDRESS.fullmatch(spec.card.source):
        found["externalReferences"] = [{"type": "distribution", "url": spec.card.source}]
    return found


def _card(spec: ModelSpec) -> dict[str, Any]:
    card: Card = spec.card
    return {
        "modelParameters": {"architectureFamily": _FAMILIES[spec.engine]},
        "considerations": {"useCases": [card.intended_use], "technicalLimitations": [card.limits]},
        "properties": [
            {"name": "inference-appliance:engine", "value": spec.engine},
            {"name": "inference-appliance:source", "value": card.source},
            {"name": "inference-appliance:golden-tests", "value": str(len(spec.golden))},
        ],
    }


def _file(layer: Layer) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{layer.path}",
        "name": layer.path,
        "hashes": [_hash(layer)],
        "properties": [
            {"name": "inference-appliance:role", "value": layer.role},
            {"name": "inference-appliance:bytes", "value": str(layer.size)},
        ],
    }


def _hash(layer: Layer) -> dict[str, str]:
    return {"alg": "SHA-256", "content": layer.sha256}


def _licence(text: str) -> dict[str, str]:
    return {"id": text} if text in _SPDX else {"name": text}
