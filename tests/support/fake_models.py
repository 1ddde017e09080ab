"""Model versions for tests of what lies above engines: folders with a fake engine's script in them."""

import json
from pathlib import Path
from typing import Any

from appliance.model_spec import Card, GoldenTest, ModelFile, ModelLimits, ModelSpec, Serving
from appliance.questions import ModelVersion

CARD = Card(licence="MIT", source="made for a test", intended_use="tests", limits="none")


def fake_spec(
    name: str = "fake", version: str = "1.0.0", *golden: GoldenTest, queue_max: int = 0, instances: int = 1
) -> ModelSpec:
    return ModelSpec(
        name=name,
        version=version,
        engine="fake",
        files=(ModelFile(path="model.json"),),
        card=CARD,
        golden=golden,
        limits=ModelLimits(max_queue=queue_max),
        serving=Serving(instances=instances),
    )


def fake_version(folder: Path, spec: ModelSpec | None = None, **script: Any) -> ModelVersion:
    """A stored version whose engine follows ``script`` (appliance/engine/fake/script.py)."""
    spec = spec or fake_spec()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(script))
    return ModelVersion(spec.name, spec.version, "sha256:0", 2, str(folder), spec)
