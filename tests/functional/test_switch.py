"""Switching the active version drops no call: neither of clients that hammer, nor one that takes long."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from daemon_process import Daemon
from running import activate, add, alive, running, versions
from traffic import Traffic, call, fp32

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc

FakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def box() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


def switch_ten_times(box: Daemon, traffic: Traffic, name: str) -> float:
    """Returns when the last switch was done; 1.0.0 is active at the beginning and at the end."""
    for number in range(10):
        activate(box, name, ("2.0.0", "1.0.0")[number % 2])
        done = time.monotonic()
        traffic.more(5)
    return done


def check(traffic: Traffic, done: float) -> None:
    assert traffic.errors == []
    assert {a.version for a in traffic.answers} == {"1.0.0", "2.0.0"}
    assert {a.version for a in traffic.answers if a.began > done} == {"1.0.0"}


def test_ten_switches_lose_no_call(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("swap", "1.0.0", constant=10))
    add(box, fake_folder("swap", "2.0.0", constant=20), no_activate=True)
    with Traffic(box.address, "swap", threads=4) as traffic:
        done = switch_ten_times(box, traffic, "swap")
    check(traffic, done)
    assert {(a.version, a.value) for a in traffic.answers} == {("1.0.0", 11.0), ("2.0.0", 21.0)}
    assert versions(box, "swap") == {"1.0.0": ("ready", True), "2.0.0": ("stored", False)}
    print(f"{len(traffic.answers)} calls through ten switches, no error")


def test_ten_switches_of_a_real_model(box: Daemon, demo_folder: Callable[[str], Path], tmp_path: Path) -> None:
    old = demo_folder("breast-cancer")
    new = tmp_path / "new"
    shutil.copytree(old, new)
    toml = (new / "model.toml").read_text()
    (new / "model.toml").write_text(toml.replace('version = "1.0.0"', 'version = "2.0.0"'))
    add(box, old)
    add(box, new, no_activate=True)
    rows = fp32(np.ones((1, 30)), "features")
    with Traffic(box.address, "breast-cancer", 3, rows, "probabilities") as traffic:
        done = switch_ten_times(box, traffic, "breast-cancer")
    check(traffic, done)
    assert len({a.value for a in traffic.answers}) == 1  # the same forest in both versions


def test_a_new_version_takes_over_as_it_is_added(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("grow", "1.0.0", constant=10))
    with Traffic(box.address, "grow") as traffic:
        box.add(fake_folder("grow", "1.1.0", constant=20))
        done = time.monotonic()
        traffic.more(5)
    assert traffic.errors == []
    assert {a.value for a in traffic.answers if a.began > done} == {21.0}


def test_a_call_that_runs_during_the_switch_is_finished_by_the_old_engine(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("long", "1.0.0", kind="language", delay_ms=50))
    add(box, fake_folder("long", "2.0.0", kind="language"), no_activate=True)
    activate(box, "long", "2.0.0", beside=True)  # so that the switch takes milliseconds, however busy the machine is
    old = box.model("long").pid
    with box.channel() as channel:
        stub = generation_pb2_grpc.GenerationStub(channel)
        prompt = " ".join(f"w{n}" for n in range(60))
        stream = stub.Generate(generation_pb2.GenerateRequest(model="long", prompt=prompt), timeout=60)
        pieces = [next(stream)]  # it runs
        switch = threading.Thread(target=activate, args=(box, "long", "2.0.0"))
        switch.start()
        box.eventually(lambda: versions(box, "long")["2.0.0"] == ("ready", True))
        assert next(iter(stub.Generate(generation_pb2.GenerateRequest(model="long", prompt="x")))).version == "2.0.0"
        assert alive(old)
        pieces += list(stream)
    assert "".join(p.text for p in pieces) == prompt
    assert pieces[-1].version == "1.0.0"
    assert pieces[-1].finished.usage.completion_tokens == 60
    switch.join(60)
    box.eventually(lambda: not alive(old))


def test_a_version_beside_is_asked_for_by_name(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("pair", "1.0.0", constant=10))
    add(box, fake_folder("pair", "2.0.0", constant=20), keep_previous=True)

    def value(version: str) -> float:
        return float(call(box.address, "pair", version=version).as_numpy("out_x")[0])

    assert [value(v) for v in ("", "1.0.0", "2.0.0")] == [21.0, 11.0, 21.0]
    assert versions(box, "pair") == {"1.0.0": ("ready", False), "2.0.0": ("ready", True)}
