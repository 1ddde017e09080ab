"""MemoryMax= of the unit is reached by one engine: it ends alone and is started again; all others go on, and so does the unit."""

from collections.abc import Iterator
from pathlib import Path

import client_models
import numpy as np
import onnx_folders
import pytest
import tritonclient.grpc as oip
from installed_box import Box
from installed_disk import MODELS, Installed
from machine import Machine
from running import add, pids
from traffic import Traffic, call
from tritonclient.utils import InferenceServerException

MAX_MIB = 500
TOO_MUCH_MIB = 700


@pytest.fixture(scope="module")
def box(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    folder = tmp_path_factory.mktemp("greedy")
    with Machine(*installed.disk, bounded=True) as machine:
        box = Box(machine)
        box.drop_in("50-memory", f"[Service]\nMemoryMax={MAX_MIB}M\n")
        box.systemctl("restart")
        box.eventually(lambda: box.serves(*MODELS))
        add(box, onnx_folders.onnx_folder(folder, "greedy", onnx_folders.greedy()))
        yield box


def wanted(mib: int) -> list[oip.InferInput]:
    tensor = oip.InferInput("megabytes", [1], "INT64")
    tensor.set_data_from_numpy(np.array([mib], np.int64))
    return [tensor]


def others(box: Box) -> set[int]:
    return set(pids(box)) - {box.model("greedy").pid}


def test_a_call_that_takes_all_the_unit_may_have(box: Box) -> None:
    before, greedy = others(box), box.model("greedy").pid
    with Traffic(box.address, "steady") as steady:
        with pytest.raises(InferenceServerException) as caught:
            call(box.address, "greedy", wanted(TOO_MUCH_MIB))
        assert caught.value.status() == "StatusCode.UNAVAILABLE"  # clients try that again
        box.eventually(lambda: box.serves("greedy") and box.model("greedy").pid != greedy)
        assert call(box.address, "greedy", wanted(3)).as_numpy("y").tolist() == [1.0]
    assert steady.errors == []
    assert others(box) == before
    assert (box.active, box.show("NRestarts")) == ("active", "0")


def test_a_model_that_takes_all_when_it_loads(box: Box, tmp_path: Path) -> None:
    before = set(pids(box))
    machine = box.machine
    machine.put(client_models.fake(tmp_path, "heavy", allocate_mib=TOO_MUCH_MIB), "/run/heavy")
    with Traffic(box.address, "steady") as steady:
        added = machine.run("appliance", "models", "add", "/run/heavy", check=False)
    assert "its engine died (signal 9" in added.stderr
    assert steady.errors == []
    assert set(pids(box)) == before
    assert (box.active, box.show("NRestarts")) == ("active", "0")
