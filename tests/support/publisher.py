"""Exports for tests: options with a card that says enough, real tables, and what a folder says of itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from appliance.model_spec import ModelSpec
from appliance.publish.card import CardTexts
from appliance.publish.export import Exported, ExportOptions, export
from appliance.store.model_folder import read

CARD = CardTexts(licence="BSD", source="a test's", intended_use="tests", limits="none known")


def options(**more: Any) -> ExportOptions:
    return ExportOptions(**{"name": "m", "version": "1.0.0", "card": CARD, "held_back": 12, **more})


def exported(model: Any, rows: Any, folder: Path, **more: Any) -> tuple[Exported, ModelSpec, dict[str, Any]]:
    """What export says, the folder as the store reads it, and its statistics.json."""
    told = export(model, rows, folder, options(**more))
    spec = read(folder).spec
    return told, spec, json.loads((folder / "statistics.json").read_text())


def onnx_answers(folder: Path, feed: dict[str, Any]) -> list[Any]:
    """What ONNX Runtime makes of the folder's file."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    answers: list[Any] = session.run(None, feed)
    return answers


def golden_arrays(spec: ModelSpec, folder: Path, side: str, name: str) -> list[Any]:
    """The arrays of one tensor in every golden test."""
    found = []
    for test in spec.golden:
        tensor = getattr(test, side)[name]
        found.append(np.load(folder / tensor.file) if tensor.file else np.reshape(tensor.data, tensor.shape))
    return found
