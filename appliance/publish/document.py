"""model.toml of an exported model, as plain values; the store's own rules judge it afterwards (prove.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from appliance import semver
from appliance.errors import InvalidArgument
from appliance.model_spec import Card
from appliance.store import model_rules


def check_names(name: str, version: str) -> None:
    """What model.toml would be refused for, before minutes go into the model."""
    model_rules.check_name(name)
    try:
        semver.check(version)
    except ValueError as error:
        raise InvalidArgument(f"version: {error}", reason=model_rules.REASON) from None


def document(
    name: str,
    version: str,
    files: Sequence[tuple[str, str]],
    onnx: Mapping[str, Any],
    card: Card,
    golden: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The whole of it: ``files`` are (path, role), ``onnx`` has labels and outputs.

    What the defaults say already stands there all the same, where an operator would look for it.
    """
    return {
        "name": name,
        "version": version,
        "engine": "onnx",
        "files": [{"path": path, "role": role} for path, role in files],
        "onnx": {"batching": "auto", **onnx},
        "serving": {"class": "latency"},
        "card": {key: value for key, value in msgspec.to_builtins(card).items() if value},
        "golden": list(golden),
    }


def classifier_facts(labels_file: str, labels: Sequence[str]) -> dict[str, Any]:
    """[onnx] of a classifier: which file names the classes, and what the outputs mean."""
    return {
        "labels": {"probabilities": labels_file},
        "outputs": {
            "label": {"description": "the class with the highest probability"},
            "probabilities": {
                "unit": "probability",
                "description": f"one for each of {len(labels)} classes; labels name them",
            },
        },
    }


def regressor_facts(output: str, unit: str, target: str) -> dict[str, Any]:
    """[onnx] of a regressor."""
    facts = {"unit": unit, "description": f"predicted {target}" if target else ""}
    facts = {key: value for key, value in facts.items() if value}
    return {"outputs": {output: facts}} if facts else {}
