"""Models that take too much: memory without end, or ten seconds. The engine may die; the box and the other models live."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import onnx_folders as models
import pytest
import tritonclient.grpc as oip
from daemon_process import DEADLINE, Daemon
from running import add, proc_status, running
from tritonclient.utils import InferenceServerException

from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc

STEP_SECONDS_MAX = 3
MEMORY = "[limits]\nmemory_mib = {}\n"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("models")
    with running(config=f"[engines]\nstep_seconds_max = {STEP_SECONDS_MAX}\n") as daemon:
        add(daemon, models.onnx_folder(root, "other", models.identity()))
        add(daemon, models.onnx_folder(root, "greedy", models.greedy(), MEMORY.format(300)))
        add(daemon, models.onnx_folder(root, "growing", models.growing(), MEMORY.format(300)))
        add(daemon, models.onnx_folder(root, "unbounded", models.greedy()))
        add(daemon, models.onnx_folder(root, "slow", models.slow()))
        yield daemon


def call(box: Daemon, model: str, name: str, values: list[int] | list[float], seconds: float = DEADLINE) -> np.ndarray:
    """The output ``y``."""
    array = np.array(values, np.int64 if isinstance(values[0], int) else np.float32)
    given = oip.InferInput(name, list(array.shape), "INT64" if array.dtype == np.int64 else "FP32")
    given.set_data_from_numpy(array)
    with oip.InferenceServerClient(box.address) as client:
        return client.infer(model, [given], client_timeout=seconds).as_numpy("y")


def refusal(box: Daemon, model: str, name: str, values: list[int], seconds: float = DEADLINE) -> tuple[str, str]:
    """Status and message of a call that must fail."""
    with pytest.raises(InferenceServerException) as caught:
        call(box, model, name, values, seconds)
    return str(caught.value.status()).removeprefix("StatusCode."), str(caught.value.message())


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "name", "enough", "too_much"),
    [("greedy", "megabytes", 20, 50_000), ("growing", "count", 3, 20), ("unbounded", "megabytes", 3, 50_000_000)],
)
def test_a_call_that_wants_all_memory_fails_alone(
    box: Daemon, model: str, name: str, enough: int, too_much: int
) -> None:
    """malloc says no at the bound, so not even the engine dies."""
    pid = box.model(model).pid
    with ThreadPoolExecutor() as pool:
        greedy = pool.submit(refusal, box, model, name, [too_much])
        answers = 0
        while not greedy.done():
            assert call(box, "other", "x", [1.5]) == [1.5]
            answers += 1
        code, message = greedy.result()
    assert (code, "not enough memory" in message) == ("RESOURCE_EXHAUSTED", True), message
    assert answers > 0
    assert call(box, model, name, [enough]) == [1.0]
    assert box.model(model).pid == pid
    if box.model(model).name != "unbounded":
        assert int(proc_status(pid)["VmHWM"].split()[0]) < 600 * 1024


def test_a_model_that_takes_too_much_while_it_loads_is_ended(box: Daemon, tmp_path: Path) -> None:
    """There no bound of the process helps: the supervisor ends it, and says why."""
    folder = models.onnx_folder(tmp_path, "bomb", models.greedy_load(3000), MEMORY.format(300))
    with pytest.raises(grpc.RpcError) as caught:
        add(box, folder)
    assert "took more than limits.memory_mib = 300 MiB and was ended" in caught.value.details()
    assert call(box, "other", "x", [1.5]) == [1.5]
    assert not [m for m in box.status().models if m.name == "bomb"]


def test_a_limit_below_what_the_model_needs_is_told_at_the_load(box: Daemon, tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        add(box, models.onnx_folder(tmp_path, "tight", models.identity(), MEMORY.format(1)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "limits.memory_mib in its model.toml allows 1" in caught.value.details()


def test_the_kernel_takes_engines_first(box: Daemon) -> None:
    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    assert score(box.model("other").pid) == 500 > score(box.pid)


def test_the_log_says_what_a_model_runs_on_and_why(box: Daemon) -> None:
    assert box.model("other").provider == "cpu"
    lines = [json.loads(line) for line in box.log if "runs on" in line]
    (said,) = [line["message"] for line in lines if line["process"] == "engine other:1.0.0"]
    assert said.startswith("model.onnx runs on cpu")
    assert "cuda: this onnxruntime was built without it; install onnxruntime-gpu" in said


# --- time ------------------------------------------------------------------------------------------------------------


def count_for(box: Daemon, seconds: float) -> int:
    """How many iterations "slow" makes in about so many seconds here and now."""
    began = time.monotonic()
    call(box, "slow", "count", [60])
    return max(1, int(60 * seconds / (time.monotonic() - began)))


def test_others_answer_while_a_model_computes_for_long(box: Daemon) -> None:
    count = count_for(box, STEP_SECONDS_MAX / 2)
    with ThreadPoolExecutor() as pool:
        long = pool.submit(call, box, "slow", "count", [count])
        times = []
        while not long.done():
            began = time.monotonic()
            assert call(box, "other", "x", [1.5]) == [1.5]
            times.append(time.monotonic() - began)
        assert long.result() == [1.0]
    assert len(times) >= 5
    assert sorted(times)[len(times) // 2] < 0.3


def test_a_deadline_holds_for_the_caller_though_the_model_goes_on(box: Daemon) -> None:
    count = count_for(box, STEP_SECONDS_MAX / 2)
    began = time.monotonic()
    code, _ = refusal(box, "slow", "count", [count], seconds=0.3)
    assert code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - began < 1.0
    assert call(box, "slow", "count", [1]) == [1.0]  # when the long one is through


def test_a_run_beyond_the_bound_is_ended_and_the_engine_comes_back(box: Daemon) -> None:
    count = count_for(box, 10.0)
    pid = box.model("slow").pid
    began = time.monotonic()
    code, message = refusal(box, "slow", "count", [count])
    assert (code, "died while it worked on this request" in message) == ("UNAVAILABLE", True), message
    assert time.monotonic() - began < STEP_SECONDS_MAX + 4
    assert call(box, "slow", "count", [1]) == [1.0]
    assert box.model("slow").pid != pid


# --- profiles --------------------------------------------------------------------------------------------------------


def test_a_profile_of_what_is_served_meanwhile(box: Daemon, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        file = tmp_path / "profile.json"
        command = ("models", "profile", "other", "--seconds", "2", "--output", str(file))
        profile = pool.submit(box.json, *command)
        while not profile.done():
            assert call(box, "other", "x", [1.5]) == [1.5]
        document = profile.result()
    assert document["runs"] > 0
    assert [(o["type"], o["runs"]) for o in document["operators"]] == [("Identity", document["runs"])]
    events = json.loads(file.read_text())
    assert sum(e["name"] == "model_run" for e in events) == document["runs"]
    assert call(box, "other", "x", [1.5]) == [1.5]


def test_a_profile_whose_client_goes_away_ends(box: Daemon) -> None:
    with box.channel() as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        stream = stub.ProfileModel(admin_pb2.ProfileModelRequest(name="other", seconds=300), timeout=1.0)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    box.eventually(lambda: "No call came" in box.cli("models", "profile", "other", "-s", "0.1", check=False).stdout)


def test_a_language_model_has_no_profile(box: Daemon, fake_folder) -> None:
    add(box, fake_folder("words", kind="language"))
    done = box.cli("models", "profile", "words", check=False)
    assert done.returncode == 6
    assert "is a language model, which has no operators to measure" in done.stderr
