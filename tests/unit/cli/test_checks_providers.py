"""What `appliance doctor` says of execution providers, from the files of simulated packages."""

import subprocess
import sys

import pytest

from appliance.cli.checks import check_libraries
from appliance.cli.checks_providers import check_providers
from appliance.config import Config, EnginesConfig


@pytest.fixture
def package(tmp_path):
    """A package with the libraries of some providers."""

    def make(*libraries):
        (tmp_path / "capi").mkdir()
        for name in libraries:
            (tmp_path / "capi" / f"libonnxruntime_providers_{name}.so").write_bytes(b"")
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("libraries", "installed", "wished", "found"),
    [
        ((), "onnxruntime", ("cpu",), "ONNX models can run on cpu"),
        ((), "onnxruntime", ("cuda", "openvino", "cpu"),
         "ONNX models can run on cpu; cuda, openvino would need onnxruntime-gpu or onnxruntime-openvino"),
        (("cuda", "tensorrt", "shared"), "onnxruntime-gpu", ("tensorrt", "cuda"), "ONNX models can run on tensorrt, cuda, cpu"),
        (("openvino",), "onnxruntime-openvino", ("tensorrt", "openvino"),
         "ONNX models can run on openvino, cpu; tensorrt would need onnxruntime-gpu"),
    ],
)  # fmt: skip
def test_what_is_there(package, libraries, installed, wished, found):
    config = Config(engines=EnginesConfig(providers=wished))
    (check,) = check_providers(config, package(*libraries), [installed])
    assert (check.level, check.found) == ("ok", found)


def test_two_packages_in_one_place(package):
    (check,) = check_providers(Config(), package(), ["onnxruntime", "onnxruntime-gpu"])
    assert check.level == "bad"
    assert "onnxruntime and onnxruntime-gpu are installed together" in check.found
    assert "install one of them again" in check.advice


def test_none_at_all_is_for_another_check(package):
    assert list(check_providers(Config(), package(), [])) == []


def test_a_package_for_other_hardware_is_onnxruntime_too(monkeypatch):
    monkeypatch.setattr("appliance.cli.checks._installed", lambda name: "" if name == "onnxruntime" else "1.2")
    checks = list(check_libraries())
    assert not [c for c in checks if c.level == "bad"]
    assert "onnxruntime 1.2" in checks[0].found


def test_nothing_native_is_loaded():
    code = (
        "import sys; from appliance.cli.checks_providers import check_providers; from appliance.config import Config;"
        "list(check_providers(Config())); print(*({'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
