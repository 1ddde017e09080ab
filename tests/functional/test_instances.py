"""Several engine processes of one version share its calls, and one that dies costs no more than the calls it had."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as oip
from daemon_process import Daemon
from running import activate, add, proc_status, running, versions
from traffic import Traffic, fp32
from tritonclient.utils import InferenceServerException

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc

FakeFolder = Callable[..., Path]
TWO = "[serving]\ninstances = 2\n"


@pytest.fixture(scope="module")
def box() -> Iterator[Daemon]:
    # Two front-ends: what instances do must not depend on which of them a call comes through.
    with running(config="[server]\naddress = '127.0.0.1:0'\nfront_ends = 2\n") as daemon:
        yield daemon


def pids(box: Daemon, name: str) -> list[int]:
    return list(box.model(name).pids)


def turns(pid: int) -> int:
    """How often a process has waited for something to do."""
    return int(proc_status(pid)["voluntary_ctxt_switches"])


def counted(box: Daemon, name: str) -> int:
    """Successful calls, by the Open Inference Protocol's ModelStatistics."""
    with oip.InferenceServerClient(box.address) as client:
        (row,) = client.get_inference_statistics(name).model_stats
        return int(row.inference_stats.success.count)


def test_both_instances_work_and_their_statistics_add_up(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("double", more_toml=TWO, delay_ms=5))
    row = box.model("double")
    assert (len(set(row.pids)), row.pid, row.service_class) == (2, row.pids[0], "latency")
    before = [turns(pid) for pid in row.pids]
    with Traffic(box.address, "double", threads=4) as traffic:
        traffic.more(100)
    assert traffic.errors == []
    calls = len(traffic.answers)
    assert counted(box, "double") == calls
    for pid, earlier in zip(row.pids, before, strict=True):
        # A call makes its engine wait twice, for the call and for its 5 ms. A second of idleness makes it wait once.
        assert turns(pid) - earlier > calls / 2
    assert f"{row.pid} +1" in box.cli("status").stdout
    assert box.json("status")["models"][0]["pids"] == list(row.pids)
    box.eventually(lambda: box.model("double").counters.success_count == calls)


def test_kill_9_of_one_under_load_costs_its_calls_in_flight_and_none_of_the_new_ones(
    box: Daemon, fake_folder: FakeFolder
) -> None:
    add(box, fake_folder("pair", more_toml=TWO, delay_ms=20, load_delay_ms=1000))
    with Traffic(box.address, "pair", threads=6) as traffic:
        first, second = pids(box, "pair")
        os.kill(first, signal.SIGKILL)
        dead = time.monotonic()
        traffic.more(20)
        # It is out, the model is not; and the one that is left answers all.
        row = box.model("pair")
        assert (row.state, list(row.pids)) in [("ready", [second]), ("ready", [*row.pids[:1], second])]
        assert "instance 1 of 2 is restarting: its engine died (signal 9 (SIGKILL))" in row.reason
        box.eventually(lambda: box.model("pair").reason == "")
        back = time.monotonic()
        traffic.more(20)
    waited = max(a.ended - a.began for a in traffic.answers if dead < a.began < back)
    print(f"{len(traffic.errors)} calls lost; new ones took {waited:.2f} s at most; it was out for {back - dead:.1f} s")
    # Its calls in flight were half of six, or one more where both were as busy.
    assert len(traffic.errors) <= 4
    assert all("died while it worked on this request" in error.message for error in traffic.errors)
    assert [error for error in traffic.errors if error.began > dead] == []
    assert waited < 0.9  # nobody waited for the instance that was down, which takes a second to load
    assert len(pids(box, "pair")) == 2
    assert box.model("pair").restarts == 1


def test_ten_switches_between_versions_with_instances_lose_no_call(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("swap", "1.0.0", more_toml=TWO, constant=10))
    add(box, fake_folder("swap", "2.0.0", more_toml="[serving]\ninstances = 3\n", constant=20), no_activate=True)
    with Traffic(box.address, "swap", threads=4) as traffic:
        for number in range(10):
            activate(box, "swap", ("2.0.0", "1.0.0")[number % 2])
            traffic.more(5)
    assert traffic.errors == []
    assert {(a.version, a.value) for a in traffic.answers} == {("1.0.0", 11.0), ("2.0.0", 21.0)}
    assert versions(box, "swap") == {"1.0.0": ("ready", True), "2.0.0": ("stored", False)}
    assert len(pids(box, "swap")) == 2


def test_a_long_call_of_one_model_does_not_hold_up_the_switch_of_another(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("long", "1.0.0", kind="language", delay_ms=50))
    for name, version in (("long", "2.0.0"), ("quick", "1.0.0"), ("quick", "2.0.0")):
        add(box, fake_folder(name, version), no_activate=version == "2.0.0")
    with box.channel() as channel:
        prompt = " ".join(f"w{number}" for number in range(400))
        request = generation_pb2.GenerateRequest(model="long", prompt=prompt)
        stream = generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=60)
        next(stream)  # it runs, for 20 s
        switch = threading.Thread(target=activate, args=(box, "long", "2.0.0"))
        switch.start()  # and waits for the stream
        box.eventually(lambda: versions(box, "long")["2.0.0"] == ("ready", True))
        activate(box, "quick", "2.0.0")
        assert versions(box, "quick") == {"1.0.0": ("stored", False), "2.0.0": ("ready", True)}
        assert switch.is_alive()
        assert versions(box, "long")["1.0.0"] == ("draining", False)
        next(stream)  # it runs still
        stream.cancel()
    switch.join(60)
    assert versions(box, "long")["1.0.0"] == ("stored", False)


# --- sequences -------------------------------------------------------------------------------------------------------

SUMS_TOML = """
name = "sums"
version = "1.0.0"
engine = "onnx"

[[files]]
path = "model.onnx"

[serving]
instances = 2

[[onnx.sequence.states]]
input = "before"
output = "after"

[card]
licence = "MIT"
source = "made for a test"
intended_use = "tests"
limits = "none"
"""


def sums_folder(folder: Path) -> Path:
    """A model that adds what it gets to what it has had: total = after = before + x."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Add", ["before", "x"], ["total"]),
            onnx.helper.make_node("Identity", ["total"], ["after"]),
        ],
        "sums",
        [value(name, onnx.TensorProto.FLOAT, ["N", 1]) for name in ("x", "before")],
        [value(name, onnx.TensorProto.FLOAT, ["N", 1]) for name in ("total", "after")],
    )
    folder.mkdir()
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), str(folder / "model.onnx"))
    (folder / "model.toml").write_text(SUMS_TOML)
    return folder


class Sums:
    """Sequences of "sums" by their number; each call comes over a connection of its own, to whichever front-end."""

    def __init__(self, box: Daemon, count: int) -> None:
        self.totals = dict.fromkeys(range(1, count + 1), 0.0)
        self._box = box

    def call(self, sequence: int, value: float, start: bool = False) -> None:
        """Raises InferenceServerException; what comes back must be the sum of all values since the start."""
        with oip.InferenceServerClient(self._box.address) as client:
            result = client.infer(
                "sums", fp32(np.array([[value]])), sequence_id=sequence, sequence_start=start, client_timeout=30
            )
        before = 0.0 if start else self.totals[sequence]
        self.totals[sequence] = before + value
        assert result.as_numpy("total")[0, 0] == self.totals[sequence], f"sequence {sequence}"

    def start(self) -> None:
        for sequence in self.totals:
            self.call(sequence, 1.0, start=True)

    def go_on(self) -> tuple[set[int], list[InferenceServerException]]:
        """The sequences that are lost, and what is said of them."""
        lost, errors = set(), []
        for sequence in self.totals:
            try:
                self.call(sequence, float(sequence))
            except InferenceServerException as error:
                lost.add(sequence)
                errors.append(error)
        return lost, errors


def test_sequences_stay_on_their_instance_and_are_lost_with_it(box: Daemon, tmp_path: Path) -> None:
    add(box, sums_folder(tmp_path / "sums"))
    sums = Sums(box, 24)
    sums.start()
    for _ in range(3):
        assert sums.go_on() == (set(), [])
    os.kill(pids(box, "sums")[0], signal.SIGKILL)
    box.eventually(lambda: "instance 1 of 2" in box.model("sums").reason)
    lost, errors = sums.go_on()
    assert 0 < len(lost) < 24  # the other instance's go on, and their sums are right
    for error in errors:
        assert error.status() == "StatusCode.INVALID_ARGUMENT"
        assert "begin it with sequence_start" in error.message()
    for sequence in lost:
        sums.call(sequence, 5.0, start=True)
    box.eventually(lambda: len(pids(box, "sums")) == 2 and not box.model("sums").reason)
    # The instance that came back is home to some: those must begin again once more, and then all stay where they are.
    for sequence in sums.go_on()[0]:
        sums.call(sequence, 7.0, start=True)
    assert sums.go_on() == (set(), [])
