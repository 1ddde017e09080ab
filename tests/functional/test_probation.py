"""A new version under traffic: a good one stays, a bad one goes by itself, and no call is lost by the switch either way."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as oip
from daemon_process import Daemon
from running import ask, running, versions
from traffic import Traffic, call, fp32
from tritonclient.utils import InferenceServerException

from appliance.pb.appliance.v1 import admin_pb2

FakeFolder = Callable[..., Path]
NAMES = (f"probed{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def box() -> Iterator[Daemon]:
    with running() as daemon:
        yield daemon


@pytest.fixture
def name() -> str:
    """A model of the test's own in the daemon that all share."""
    return next(NAMES)


def add(box: Daemon, folder: Path, seconds: float = 0.0) -> None:
    box.add(folder, *(["--probation", str(seconds)] if seconds else []))


def events(box: Daemon, name: str) -> list[str]:
    """What became of a model's versions, in order, as "version event"."""
    lines = [json.loads(line) for line in box.log if line.startswith("{")]
    # Engines' own events are of their model as well; these end in their name.
    mine = [line for line in lines if line.get("model") == name and line["message"].endswith(f"[{line.get('event')}]")]
    return [f"{line['version']} {line['event'].removeprefix('model.')}" for line in mine]


def come_to_know(box: Daemon, name: str, traffic: Traffic, calls: int) -> None:
    """Until the daemon has heard from the engine of so many calls: it hears once a second."""
    traffic.more(calls)
    box.eventually(lambda: box.model(name).counters.success_count >= calls)


def reason(box: Daemon, name: str, version: str) -> str:
    return box.model(name, version).quarantine_reason


def rolled_back(box: Daemon, name: str) -> bool:
    return versions(box, name) == {"1.0.0": ("ready", True), "2.0.0": ("stored", False)}


def refusal(error: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str]:
    return error.value.code(), error.value.details()


def test_a_good_version_is_committed(box: Daemon, fake_folder: FakeFolder, name: str) -> None:
    add(box, fake_folder(name, "1.0.0", constant=10))
    with Traffic(box.address, name) as traffic:
        add(box, fake_folder(name, "2.0.0", constant=20), seconds=4)
        assert box.model(name).probation_until_ms > 0
        assert versions(box, name) == {"1.0.0": ("ready", False), "2.0.0": ("ready", True)}
        box.eventually(lambda: versions(box, name) == {"1.0.0": ("stored", False), "2.0.0": ("ready", True)})
        traffic.more(5)
    assert traffic.errors == []
    assert {a.value for a in traffic.answers} == {11.0, 21.0}
    assert box.model(name).probation_until_ms == 0
    assert events(box, name) == ["1.0.0 activated", "2.0.0 activated", "2.0.0 probation_began", "2.0.0 committed"]


def test_a_version_that_fails_one_call_in_five_is_rolled_back(box: Daemon, fake_folder: FakeFolder, name: str) -> None:
    add(box, fake_folder(name, "1.0.0", constant=10))
    with Traffic(box.address, name) as traffic:
        come_to_know(box, name, traffic, 500)
        add(box, fake_folder(name, "2.0.0", constant=20, fail_every=5), seconds=60)
        box.eventually(lambda: rolled_back(box, name))
        failed = len(traffic.errors)
        traffic.more(50)
    assert len(traffic.errors) == failed
    # What the model failed, it failed; the two switches failed nothing.
    assert {e.message for e in traffic.errors} == {"this fake engine was told to fail"}
    assert {a.version for a in traffic.answers} == {"1.0.0", "2.0.0"}
    assert "calls failed; of the previous version 0 of " in reason(box, name, "2.0.0")
    told = ["activated", "probation_began", "rolled_back", "quarantined"]
    assert events(box, name) == ["1.0.0 activated", *(f"2.0.0 {event}" for event in told)]


def test_a_slow_version_is_rolled_back(box: Daemon, fake_folder: FakeFolder, name: str) -> None:
    add(box, fake_folder(name, "1.0.0", constant=10))
    with Traffic(box.address, name) as traffic:
        come_to_know(box, name, traffic, 200)
        add(box, fake_folder(name, "2.0.0", constant=20, delay_ms=40), seconds=60)
        box.eventually(lambda: rolled_back(box, name))
        traffic.more(50)
    assert traffic.errors == []
    assert "the median of its calls takes" in reason(box, name, "2.0.0")


def test_a_version_whose_engine_dies_is_rolled_back(box: Daemon, fake_folder: FakeFolder, name: str) -> None:
    add(box, fake_folder(name, "1.0.0", constant=10))
    with Traffic(box.address, name) as traffic:
        add(box, fake_folder(name, "2.0.0", constant=20, crash_after=30), seconds=60)
        box.eventually(lambda: rolled_back(box, name))
        traffic.more(50)
    # Each of the two clients had one call in the engine that died, at most; everything else was answered.
    assert len(traffic.errors) <= 2
    assert all("died while it worked on this request" in e.message for e in traffic.errors)
    assert "its engine died" in reason(box, name, "2.0.0")


def test_a_version_that_nobody_calls_is_committed(box: Daemon, fake_folder: FakeFolder, name: str) -> None:
    add(box, fake_folder(name, "1.0.0"))
    add(box, fake_folder(name, "2.0.0"), seconds=1)
    box.eventually(lambda: box.model(name).probation_until_ms == 0)
    assert versions(box, name)["2.0.0"] == ("ready", True)
    box.eventually(lambda: any("no calls came in 1 s" in line and name in line for line in box.log))


def test_what_clients_do_wrong_rolls_nothing_back(box: Daemon, fake_folder: FakeFolder, name: str) -> None:
    """Inputs that there are not, shapes that do not fit, deadlines that nobody could keep: none is the model's fault."""
    add(box, fake_folder(name, "1.0.0", delay_ms=20))
    with Traffic(box.address, name) as traffic:
        come_to_know(box, name, traffic, 100)
        add(box, fake_folder(name, "2.0.0", delay_ms=20), seconds=5)
        for inputs in [fp32(np.ones(1), "no_such_input"), fp32(np.ones((2, 2)))] * 30:
            with pytest.raises(InferenceServerException, match=r"input|shape"):
                call(box.address, name, inputs)
        with oip.InferenceServerClient(box.address) as client:
            for _ in range(30):
                with pytest.raises(InferenceServerException, match=r"(?i)deadline"):
                    client.infer(name, fp32(np.ones(1)), client_timeout=0.005)
        box.eventually(lambda: box.model(name).probation_until_ms == 0)
    assert traffic.errors == []
    assert versions(box, name)["2.0.0"] == ("ready", True)
    assert events(box, name)[-1] == "2.0.0 committed"


def test_by_hand(box: Daemon, fake_folder: FakeFolder, name: str) -> None:
    add(box, fake_folder(name, "1.0.0", constant=10))
    add(box, fake_folder(name, "2.0.0", constant=20))
    with Traffic(box.address, name) as traffic:
        document = box.json("models", "rollback", name)
        traffic.more(5)
    assert (document["outcome"], document["status"]["version"], document["status"]["active"]) == (
        "rolled back", "1.0.0", True,
    )  # fmt: skip
    assert traffic.errors == []
    assert reason(box, name, "2.0.0") == "an operator rolled it back"
    done = box.cli("models", "rollback", name, check=False)
    assert done.returncode == 7
    assert "no version to go back to" in " ".join(done.stderr.split())
    done = box.cli("models", "activate", name, "2.0.0", check=False)
    assert done.returncode == 7
    assert f"appliance models activate {name} 2.0.0 --force" in " ".join(done.stderr.split())
    assert "quarantined" in box.cli("models", "show", name, "2.0.0").stdout
    box.cli("models", "activate", name, "2.0.0", "--force")
    assert versions(box, name)["2.0.0"] == ("ready", True)
    assert reason(box, name, "2.0.0") == ""
    assert box.cli("models", "rollback", "nobody", check=False).returncode == 3


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), 1e9])
def test_a_probation_has_bounds(box: Daemon, fake_folder: FakeFolder, name: str, seconds: float) -> None:
    add(box, fake_folder(name, "1.0.0"))
    request = admin_pb2.ActivateModelRequest(name=name, version="1.0.0", probation_seconds=seconds)
    with pytest.raises(grpc.RpcError) as caught:
        ask(box, "ActivateModel", request)
    assert refusal(caught)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_a_restart_in_the_middle(short_path: Path, fake_folder: FakeFolder) -> None:
    """The probation goes on after a power cut, with what the previous version did before; and the quarantine lasts."""
    with running(short_path) as box:
        add(box, fake_folder("kept", "1.0.0", constant=10))
        with Traffic(box.address, "kept") as traffic:
            come_to_know(box, "kept", traffic, 500)
        add(box, fake_folder("kept", "2.0.0", constant=20, fail_every=5), seconds=120)
        box.kill()
    with running(short_path) as box:
        box.eventually(lambda: versions(box, "kept") == {"1.0.0": ("ready", False), "2.0.0": ("ready", True)})
        assert box.model("kept").probation_until_ms > 0
        with Traffic(box.address, "kept"):
            box.eventually(lambda: rolled_back(box, "kept"))
        assert "of the previous version 0 of " in reason(box, "kept", "2.0.0")
        box.kill()
    with running(short_path) as box:
        box.eventually(lambda: rolled_back(box, "kept"))
        assert "calls failed" in reason(box, "kept", "2.0.0")
        done = box.cli("models", "activate", "kept", "2.0.0", check=False)
        assert done.returncode == 7
        assert call(box.address, "kept").get_response().model_version == "1.0.0"
