"""An engine may die at any moment: it costs its own calls in flight, and a model that keeps dying is taken out."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from daemon_process import Daemon
from running import activate, add, alive, deactivate, proc_status, running, versions
from traffic import Traffic, call, text
from tritonclient.utils import InferenceServerException

FakeFolder = Callable[..., Path]
WORDS = [{"name": "x", "datatype": "BYTES"}]
STEP_SECONDS_MAX = 2


@pytest.fixture(scope="module")
def box() -> Iterator[Daemon]:
    with running(config=f"[engines]\nstep_seconds_max = {STEP_SECONDS_MAX}\n") as daemon:
        yield daemon


def refusal(box: Daemon, model: str, word: bytes) -> str:
    """The message of a call that must fail with UNAVAILABLE."""
    with pytest.raises(InferenceServerException) as caught:
        call(box.address, model, text(word))
    assert caught.value.status() == "StatusCode.UNAVAILABLE", caught.value
    return str(caught.value.message())


def say(box: Daemon, model: str, word: bytes = b"hello") -> bytes:
    return bytes(call(box.address, model, text(word)).as_numpy("out_x")[0])


def kill(pid: int, number: int = signal.SIGKILL) -> float:
    os.kill(pid, number)
    return time.monotonic()


def test_kill_9_under_load_costs_only_the_calls_in_flight(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("victim", delay_ms=20))
    add(box, fake_folder("bystander"))
    with Traffic(box.address, "victim", threads=4) as victim, Traffic(box.address, "bystander") as bystander:
        dead = kill(box.model("victim").pid)
        back = victim.more(8, since=dead)
        bystander.more(8)
    print(f"serving again {back.ended - dead:.2f} s after kill -9, {len(victim.errors)} calls lost")
    assert bystander.errors == []
    assert 1 <= len(victim.errors) <= 4
    for error in victim.errors:
        assert error.status == "StatusCode.UNAVAILABLE"
        assert "died while it worked on this request" in error.message
        assert error.ended - dead < 2
    assert back.ended - dead < 10
    row = box.model("victim")
    assert (row.state, row.restarts) == ("ready", 1)
    box.eventually(lambda: box.model("victim").counters.lost_count == len(victim.errors))


def test_calls_that_come_while_the_engine_starts_again_wait_for_it(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("phoenix", load_delay_ms=300))
    old = box.model("phoenix").pid
    kill(old)
    box.eventually(lambda: not alive(old))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: call(box.address, "phoenix"), range(8)))
    assert len(answers) == 8


def poison_until_quarantined(box: Daemon, model: str, version: str) -> None:
    deaths = 0
    while versions(box, model)[version][0] != "quarantined":
        message = refusal(box, model, b"POISON")
        deaths += "died while" in message
        assert deaths <= 6, "more deaths than the budget allows"
    assert deaths == 6


def test_a_model_that_keeps_dying_is_quarantined_until_an_operator_activates_it(
    box: Daemon, fake_folder: FakeFolder
) -> None:
    add(box, fake_folder("fragile", tensors=WORDS, crash_on="POISON"))
    poison_until_quarantined(box, "fragile", "1.0.0")
    assert "kept dying" in refusal(box, "fragile", b"hello")
    row = box.model("fragile")
    assert (row.state, row.pid) == ("quarantined", 0)
    assert "SIGABRT" in row.reason
    box.cli("models", "activate", "fragile")
    assert say(box, "fragile") == b"hello"
    # With a clean sheet: one more death is no reason to give up.
    assert "died while" in refusal(box, "fragile", b"POISON")
    assert say(box, "fragile") == b"hello"


def test_the_previous_version_comes_back_for_a_quarantined_one(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("release", "1.0.0", tensors=WORDS))
    add(box, fake_folder("release", "2.0.0", tensors=WORDS, crash_on="POISON"))
    assert call(box.address, "release", text(b"x")).get_response().model_version == "2.0.0"
    deaths = 0
    while versions(box, "release")["2.0.0"][0] != "quarantined":
        try:
            call(box.address, "release", text(b"POISON"), version="2.0.0")
        except InferenceServerException as error:
            deaths += "died while" in error.message()
    assert deaths == 6
    box.eventually(lambda: versions(box, "release")["1.0.0"] == ("ready", True))
    assert call(box.address, "release", text(b"POISON")).get_response().model_version == "1.0.0"
    deactivate(box, "release", "2.0.0")
    assert versions(box, "release") == {"1.0.0": ("ready", True), "2.0.0": ("stored", False)}
    activate(box, "release", "2.0.0")
    assert call(box.address, "release", text(b"x")).get_response().model_version == "2.0.0"


def test_an_engine_whose_loop_no_longer_turns_is_killed(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("stopped"))
    add(box, fake_folder("hung", tensors=WORDS, hang_on="HANG"))
    old = {name: box.model(name).pid for name in ("stopped", "hung")}
    since = kill(old["stopped"], signal.SIGSTOP)
    assert "died while" in refusal(box, "hung", b"HANG")
    for name, pid in old.items():
        box.eventually(lambda pid=pid: not alive(pid), STEP_SECONDS_MAX + 10)
        box.eventually(lambda name=name: box.model(name).state == "ready")
    print(f"a stopped engine was replaced within {time.monotonic() - since:.1f} s, bound {STEP_SECONDS_MAX} s")
    assert say(box, "hung") == b"hello"
    assert call(box.address, "stopped").as_numpy("out_x")[0] == 1.0


def test_an_engine_has_no_network(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("cell"))
    assert proc_status(box.model("cell").pid)["Seccomp"] == "2"
    assert proc_status(box.model("cell").pid)["NoNewPrivs"] == "1"


def test_a_model_whose_load_kills_its_engine_is_refused_at_once(box: Daemon, fake_folder: FakeFolder) -> None:
    with pytest.raises(grpc.RpcError, match="its engine died"):
        add(box, fake_folder("brittle", crash_on_load=True))
    assert versions(box, "brittle") == {}
