"""A new version of a large model from a real registry to a real daemon, which receives less than a hundredth of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from counting_proxy import CountingProxy, counting_proxy
from daemon_process import Daemon
from docker_registry import DockerRegistry, docker_registry, required
from headquarters import Headquarters, box_config
from onnx import TensorProto, helper, numpy_helper
from running import running, versions
from tritonclient import grpc as oip

required("docker-registry")

ROWS = 12 << 20
TOML = """
name = "lookup"
version = "{version}"
engine = "onnx"
[[files]]
path = "model.onnx"
[card]
licence = "MIT"
source = "made for a test"
intended_use = "tests"
limits = "none"
"""


def model(producer: str, **metadata: str) -> bytes:
    """48 MiB of weights; what describes them is before and behind them."""
    weights = numpy_helper.from_array(np.random.default_rng(5).standard_normal(ROWS, np.float32), "weights")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gather", ["weights", "i"], ["y"])],
        "g",
        [value("i", TensorProto.INT64, ["n"])],
        [value("y", TensorProto.FLOAT, ["n"])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10, producer_name=producer)
    helper.set_model_props(made, metadata)
    return bytes(made.SerializeToString())


def folder(root: Path, version: str, data: bytes) -> Path:
    made = root / f"lookup-{version}"
    made.mkdir()
    (made / "model.toml").write_text(TOML.format(version=version))
    (made / "model.onnx").write_bytes(data)
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "distribution") as made:
        yield made


@pytest.fixture
def line(registry: DockerRegistry) -> Iterator[CountingProxy]:
    """What the box is connected to the registry with."""
    with counting_proxy(registry.host) as made:
        yield made


def runs(box: Daemon, version: str) -> Callable[[], bool]:
    return lambda: versions(box, "lookup").get(version) == ("ready", True)


def answers(box: Daemon) -> bool:
    asked = oip.InferInput("i", [1], "INT64")
    asked.set_data_from_numpy(np.array([3]))
    with oip.InferenceServerClient(box.address) as client:
        found = client.infer("lookup", [asked]).as_numpy("y")
    wanted = np.random.default_rng(5).standard_normal(ROWS, np.float32)[3]
    return bool(found is not None and found[0] == wanted)


def test_a_metadata_edit_moves_less_than_one_percent(
    registry: DockerRegistry, line: CountingProxy, tmp_path: Path
) -> None:
    publisher = Headquarters(tmp_path, registry.url, "lookup")
    first = model("a tool", made="in May")
    publisher.release(folder(tmp_path, "1.0.0", first), "1.0.0")
    with running(config=box_config(line.url, poll=2)) as box:
        box.cli("registry", "trust", str(tmp_path / "publisher/metadata/1.root.json"), "--yes")
        box.eventually(runs(box, "1.0.0"))
        assert line.received > len(first)
        before = line.received
        second = model("another tool, with a longer name", made="in June", by="somebody else")
        publisher.release(folder(tmp_path, "2.0.0", second), "2.0.0")
        box.eventually(runs(box, "2.0.0"))
        received = line.received - before
        assert answers(box)
        assert box.cli("store", "check").returncode == 0
    print(f"{received} of {len(second)} bytes: {100 * received / len(second):.3f} %")
    assert received < len(second) / 100
    assert any("were not fetched" in text for text in box.log)
