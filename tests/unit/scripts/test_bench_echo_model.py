import numpy as np
import onnxruntime
import pytest
from bench import echo_model

from appliance.store import model_folder


def test_the_model_folder_is_one_that_the_store_takes_and_gives_its_input_back(tmp_path):
    assert echo_model.main([str(tmp_path)]) == 0
    found = model_folder.read(tmp_path / "echo")
    assert [file.path for file in found.files] == ["model.toml", "model.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "echo" / "model.onnx")
    values = np.arange(1000, dtype=np.float32)
    assert np.array_equal(session.run(None, {"x": values})[0], values)


@pytest.mark.parametrize(("argv", "status"), [([], 2), (["a", "b"], 2), (["--help"], 0), (["--what"], 2)])
def test_usage(argv, status, capsys):
    assert echo_model.main(argv) == status
    assert "usage: scripts/bench_echo_model TARGET" in capsys.readouterr().err
