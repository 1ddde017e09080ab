"""The engine that model.toml names is loaded, and no other one's native library."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
from appliance.engine.base import LoadOptions
from appliance.engine.loading import load
from appliance.errors import InvalidArgument
from appliance.model_spec import Card, ModelFile, ModelSpec
engine = sys.argv[1]
spec = ModelSpec(name="m", version="1.0.0", engine=engine, files=(ModelFile(path="m"),),
    card=Card(licence="", source="", intended_use="", limits=""))
try:
    load(spec, Path(sys.argv[2]), LoadOptions())
except InvalidArgument as error:
    assert error.reason in ("MODEL_FILE", "MODEL_CORRUPT"), error.reason
else:
    assert engine == "fake"
print(*sorted({"onnxruntime", "llama_cpp"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("engine", "native"), [("fake", ""), ("onnx", "onnxruntime"), ("llama", "llama_cpp")])
def test_only_the_engine_asked_for_is_imported(tmp_path, engine, native):
    (tmp_path / "m").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, engine, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("", native)
