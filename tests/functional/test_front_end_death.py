"""Front-ends and the sync process may die too: they come back, and engines never notice."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as oip
from daemon_process import Daemon
from running import add, alive, deactivate, free_port, proc_status, running, versions
from traffic import Traffic, call, fp32

FakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def box() -> Iterator[Daemon]:
    # With port 0 a front-end that starts again would get another port.
    with running(config=f'[server]\naddress = "127.0.0.1:{free_port()}"\nfront_ends = 1\n') as daemon:
        yield daemon


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_kill_9_of_the_front_end(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("steady"))
    engine, front_end = box.model("steady").pid, box.process_of("front-end 0")
    with oip.InferenceServerClient(box.address) as client:
        kill(front_end)
        box.eventually(lambda: not alive(front_end))
        box.eventually(lambda: ready(client, "steady"))
        assert client.infer("steady", fp32(np.ones(1))).as_numpy("out_x")[0] == 1.0  # the same client, connected again
    box.ready()
    assert box.process_of("front-end 0") != front_end
    assert next(p.restarts for p in box.status().processes if p.role == "front-end 0") == 1
    assert box.model("steady").pid == engine
    add(box, fake_folder("after-front-end"))
    assert call(box.address, "after-front-end").as_numpy("out_x")[0] == 1.0


def ready(client: oip.InferenceServerClient, model: str) -> bool:
    try:
        return bool(client.is_model_ready(model, client_timeout=5))
    except oip.InferenceServerException:
        return False


def test_calls_of_a_dead_front_end_are_cancelled_in_the_engine(box: Daemon, fake_folder: FakeFolder) -> None:
    """Otherwise an engine would go on working for clients that are gone."""
    add(box, fake_folder("orphaned", delay_ms=10))
    with Traffic(box.address, "orphaned", threads=4) as traffic:
        kill(box.process_of("front-end 0"))
        box.eventually(lambda: bool(traffic.errors))
    assert {e.status for e in traffic.errors} == {"StatusCode.UNAVAILABLE"}
    box.ready()
    box.eventually(lambda: box.model("orphaned").counters.waiting == 0)
    assert call(box.address, "orphaned").as_numpy("out_x")[0] == 1.0


def test_kill_9_of_the_sync_process(box: Daemon, fake_folder: FakeFolder) -> None:
    add(box, fake_folder("calm"))
    engine, sync = box.model("calm").pid, box.process_of("sync")
    with Traffic(box.address, "calm") as traffic:
        kill(sync)
        # A question to a process whose death the supervisor has not seen yet is refused: try again.
        box.eventually(lambda: box.process_of("sync") != sync)
        add(box, fake_folder("after-sync"))  # waits until the next one is there
        traffic.more(5)
    assert traffic.errors == []
    assert box.process_of("sync") not in (0, sync)
    assert box.model("calm").pid == engine
    deactivate(box, "after-sync")
    box.cli("models", "remove", "after-sync", "1.0.0", "--yes")
    assert versions(box, "after-sync") == {}


def test_only_engines_are_sealed(box: Daemon) -> None:
    """A front-end under the engines' filter could not listen: the filter must not be inherited."""
    for role in ("supervisor", "front-end 0", "sync"):
        assert proc_status(box.process_of(role))["Seccomp"] == "0"
