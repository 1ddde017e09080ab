"""The child that loads a model folder and runs its golden tests: what it says, and that it says it as JSON."""

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from fake_models import fake_spec, fake_version

from appliance.engine.prove import prove
from appliance.errors import ApplianceError
from appliance.model_spec import GoldenTensor, GoldenTest, ModelSpec


def child(spec: ModelSpec, folder: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "appliance.engine.prove", str(folder)]
    done = subprocess.run(command, input=msgspec.msgpack.encode(spec), capture_output=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def golden(expected: float) -> GoldenTest:
    return GoldenTest(
        name="as given",
        inputs={"x": GoldenTensor(shape=(2,), data=[1.0, float("nan")])},
        outputs={"x": GoldenTensor(shape=(2,), data=[expected, float("nan")])},
    )


def test_it_says_which_tests_passed(tmp_path):
    spec = fake_spec("m", "1.0.0", golden(1.0))
    fake_version(tmp_path, spec, tensors=[{"name": "x", "output": "x"}])
    assert prove(tmp_path, spec) == ["as given"]
    assert child(spec, tmp_path) == {"passed": ["as given"]}


def test_it_says_what_failed(tmp_path):
    spec = fake_spec("m", "1.0.0", golden(2.0))
    fake_version(tmp_path, spec, tensors=[{"name": "x", "output": "x"}])
    with pytest.raises(ApplianceError):
        prove(tmp_path, spec)
    answer = child(spec, tmp_path)
    assert (answer["code"], answer["reason"]) == ("FAILED_PRECONDITION", "GOLDEN_FAILED")
    assert "output 'x' at [0]: got 1.0, expected 2.0" in str(answer["message"])


def test_it_says_what_cannot_be_loaded(tmp_path):
    spec = fake_spec("m", "1.0.0", golden(1.0))
    fake_version(tmp_path, spec, refuse={"message": "not this one"})
    assert child(spec, tmp_path) == {"code": "INVALID_ARGUMENT", "reason": "MODEL_CORRUPT", "message": "not this one"}
