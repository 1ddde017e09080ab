"""A version beside the active one, in the real daemon: its share of the calls, none lost, and what the comparison shows."""

import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon_process import Daemon
from running import activate, add, running, versions
from traffic import Traffic, fp32

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc

import numpy as np  # isort: skip

FakeFolder = Callable[..., Path]
NAMES = (f"beside{number}" for number in itertools.count())
TWO_LABELS = [{"name": "x", "shape": [-1, 2], "labels": ["no", "yes"]}]


@pytest.fixture(scope="module")
def box() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


@pytest.fixture
def pair(box: Daemon, fake_folder: FakeFolder) -> Callable[..., str]:
    """Two versions of a model of the test's own: 1.0.0 is active, 2.0.0 is stored."""

    def make(candidate: dict[str, Any] | None = None, **both: Any) -> str:
        name = next(NAMES)
        add(box, fake_folder(name, "1.0.0", **both))
        add(box, fake_folder(name, "2.0.0", **(both | (candidate or {}))), no_activate=True)
        return name

    return make


def begin(box: Daemon, mode: str, name: str, *options: object) -> dict[str, Any]:
    return box.json("models", mode, name, "2.0.0", *map(str, options))


def shown(box: Daemon, name: str) -> dict[str, Any]:
    return box.json("models", "compare", name)


def ended(box: Daemon, name: str) -> dict[str, Any]:
    box.eventually(lambda: shown(box, name)["outcome"] != "running")
    return shown(box, name)


def calls(box: Daemon, name: str, count: int, inputs: Any = None) -> Counter[str]:
    """Which versions answered so many calls, each on a connection that all of one front-end share."""
    with Traffic(box.address, name, 1, inputs) as traffic:
        traffic.more(count)
    assert traffic.errors == []
    return Counter(answer.version for answer in traffic.answers)


def test_a_share_of_the_calls_is_the_candidates_and_the_answer_says_so(box: Daemon, pair: Callable[..., str]) -> None:
    name = pair({"constant": 10})
    begin(box, "canary", name, "--percent", 20, "--calls", 0)
    with Traffic(box.address, name, 1) as traffic:
        traffic.more(100)
    found = Counter((a.version, a.value) for a in traffic.answers)
    assert traffic.errors == []
    assert set(found) == {("1.0.0", 1.0), ("2.0.0", 11.0)}
    beside = {"candidate": "2.0.0", "mode": "canary", "percent": 20.0}
    told = {m["version"]: m["comparison"] for m in box.json("status")["models"] if m["name"] == name}
    assert told == {"1.0.0": beside, "2.0.0": None}
    # One connection, so one front-end: exactly one in five.
    assert found["2.0.0", 11.0] == len(traffic.answers) // 5
    box.eventually(lambda: shown(box, name)["offered"] == len(traffic.answers))
    box.eventually(lambda: shown(box, name)["pairs"] > 0)
    page = box.cli("models", "compare", name).stdout
    assert "20 % of the calls" in page
    assert all(len(line) <= 80 for line in page.splitlines())
    record = box.json("models", "abandon", name)
    assert (record["outcome"], record["reason"]) == ("abandoned", "an operator ended it")
    assert "is compared with" not in box.cli("status").stdout
    assert record["numeric"] == record["pairs"] > 0
    assert record["distance_max"] == 10.0
    assert versions(box, name) == {"1.0.0": ("ready", True), "2.0.0": ("stored", False)}
    assert set(calls(box, name, 30)) == {"1.0.0"}


def test_a_candidate_that_fails_loses_no_call_and_is_condemned(box: Daemon, pair: Callable[..., str]) -> None:
    name = pair({"fail_every": 2})
    with Traffic(box.address, name, 4) as traffic:
        begin(box, "canary", name, "--percent", 50, "--by-rule", "--calls", 10_000)
        record = ended(box, name)
        traffic.more(20)
    assert traffic.errors == []
    assert record["outcome"] == "condemned"
    assert record["retried"] >= 3
    box.eventually(lambda: versions(box, name)["2.0.0"][0] == "stored")
    assert "quarantined" in box.cli("models", "activate", name, "2.0.0", check=False).stderr
    assert set(calls(box, name, 30)) == {"1.0.0"}


def test_an_engine_that_is_killed_in_a_canary_costs_no_call(box: Daemon, pair: Callable[..., str]) -> None:
    name = pair(delay_ms=5)
    begin(box, "canary", name, "--percent", 50, "--calls", 0)
    with Traffic(box.address, name, 4) as traffic:
        traffic.more(20)
        os.kill(box.model(name, "2.0.0").pid, signal.SIGKILL)
        traffic.more(200)
    assert traffic.errors == []
    assert {a.version for a in traffic.answers} == {"1.0.0", "2.0.0"}
    box.json("models", "abandon", name)


def test_a_shadow_answers_nobody_and_is_compared(box: Daemon, pair: Callable[..., str]) -> None:
    name = pair({"constant": 1}, tensors=TWO_LABELS)
    begin(box, "shadow", name, "--calls", 0)
    with Traffic(box.address, name, 2, fp32(np.array([[0.25, 0.75]]))) as traffic:
        traffic.more(20)
        box.eventually(lambda: shown(box, name)["pairs"] >= 5)
    assert traffic.errors == []
    assert {a.version for a in traffic.answers} == {"1.0.0"}
    record = box.json("models", "promote", name)
    assert record["outcome"] == "promoted"
    # Other numbers, the same label.
    assert record["agreed"] == record["classified"] == record["pairs"]
    assert record["distance_max"] == 1.0
    assert versions(box, name) == {"1.0.0": ("stored", False), "2.0.0": ("ready", True)}


def test_the_rule_promotes_what_keeps_to_the_bounds(box: Daemon, pair: Callable[..., str]) -> None:
    name = pair(tensors=TWO_LABELS)
    with Traffic(box.address, name, 2, fp32(np.array([[0.25, 0.75]]))) as traffic:
        begin(box, "canary", name, "--percent", 25, "--calls", 20, "--by-rule", "--probation", 60)
        record = ended(box, name)
        traffic.more(10)
    assert traffic.errors == []
    assert record["outcome"] == "promoted"
    assert versions(box, name)["2.0.0"] == ("ready", True)
    assert box.model(name, "2.0.0").probation_until_ms > 0
    assert traffic.answers[-1].version == "2.0.0"


def test_a_shadow_that_says_something_else_is_condemned(box: Daemon, fake_folder: FakeFolder) -> None:
    name = next(NAMES)
    add(box, fake_folder(name, "1.0.0", tensors=[{"datatype": "INT64"}]))
    add(box, fake_folder(name, "2.0.0", tensors=[{"datatype": "INT64"}], constant=1), no_activate=True)
    import tritonclient.grpc as oip

    number = oip.InferInput("x", [1], "INT64")
    number.set_data_from_numpy(np.array([7]))
    with Traffic(box.address, name, 2, [number]) as traffic:
        begin(box, "shadow", name, "--by-rule")
        record = ended(box, name)
    assert traffic.errors == []
    assert {a.version for a in traffic.answers} == {"1.0.0"}
    assert record["outcome"] == "condemned"
    assert "agree" in record["reason"]
    assert record["agreed"] == 0


def test_a_language_models_shadow_counts_tokens(box: Daemon, pair: Callable[..., str]) -> None:
    name = pair({"delay_ms": 2}, kind="language")
    begin(box, "shadow", name, "--calls", 0)
    with box.channel() as channel:
        stub = generation_pb2_grpc.GenerationStub(channel)
        for _ in range(3):
            pieces = list(stub.Generate(generation_pb2.GenerateRequest(model=name, prompt="one two three"), timeout=30))
            assert pieces[-1].version == "1.0.0"
    box.eventually(lambda: shown(box, name)["texts"] + shown(box, name)["dropped"] == 3)
    record = box.json("models", "abandon", name)
    assert record["texts"] == record["same_texts"] > 0
    assert record["candidate"]["tokens"] == 3 * record["texts"]
    assert record["active"]["tokens"] == 9
    assert record["candidate"]["first_piece_ms"] > 0


def test_what_it_showed_outlives_the_daemon_and_it_begins_again(short_path: Path, fake_folder: FakeFolder) -> None:
    folders = [fake_folder("kept", version) for version in ("1.0.0", "2.0.0")]
    with running(short_path) as daemon:
        add(daemon, folders[0])
        add(daemon, folders[1], no_activate=True)
        first = begin(daemon, "canary", "kept", "--percent", 50, "--calls", 0)
        daemon.kill()
    with running(short_path) as daemon:
        daemon.eventually(lambda: shown(daemon, "kept")["outcome"] == "running")
        again = shown(daemon, "kept")
        assert again["began_ms"] > first["began_ms"]
        assert set(calls(daemon, "kept", 20)) == {"1.0.0", "2.0.0"}
        assert daemon.json("models", "abandon", "kept")["outcome"] == "abandoned"
        daemon.kill()
    with running(short_path) as daemon:
        assert shown(daemon, "kept")["outcome"] == "abandoned"
        assert set(calls(daemon, "kept", 10)) == {"1.0.0"}


def test_activating_another_version_ends_it(box: Daemon, pair: Callable[..., str], fake_folder: FakeFolder) -> None:
    name = pair()
    begin(box, "canary", name, "--calls", 0)
    add(box, fake_folder(name, "3.0.0"))
    assert ended(box, name)["outcome"] == "interrupted"
    box.eventually(lambda: versions(box, name)["2.0.0"] == ("stored", False))
    activate(box, name, "1.0.0")
    begin(box, "canary", name, "--calls", 0)
    activate(box, name, "2.0.0")
    assert ended(box, name)["outcome"] == "promoted"
    assert versions(box, name)["2.0.0"] == ("ready", True)


def test_what_cannot_be_compared_is_refused(box: Daemon, pair: Callable[..., str]) -> None:
    name = pair()

    def refused(*arguments: str) -> str:
        done = box.cli("models", *arguments, check=False)
        assert done.returncode != 0
        return done.stderr

    assert "is the active one" in refused("canary", name, "1.0.0")
    assert "is not stored here" in refused("shadow", name, "9.9.9")
    assert "was compared yet" in refused("compare", name)
    assert "is being compared" in refused("promote", name)
    assert "needs an end" in refused("canary", name, "2.0.0", "--by-rule", "--calls", "0")
    begin(box, "canary", name, "--calls", 0)
    assert "is being compared" in refused("shadow", name, "2.0.0")
    assert "is being compared" in refused("remove", name, "2.0.0", "--yes")
    box.cli("models", "deactivate", name, "2.0.0")
    assert shown(box, name)["outcome"] == "abandoned"
