"""An orderly stop: health says so first, nothing new comes in, what runs is finished or, when time is up, cancelled."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from daemon_process import Daemon
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running import add, alive, pids, running
from traffic import Traffic, call
from tritonclient.utils import InferenceServerException

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc

FakeFolder = Callable[..., Path]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Client:
    """One connection over TCP, with a generation that runs and health watched."""

    def __init__(self, address: str, model: str, words: int) -> None:
        self.channel = grpc.insecure_channel(address)
        health = health_pb2_grpc.HealthStub(self.channel)
        self.watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", model)]
        assert [next(watch).status for watch in self.watches] == [SERVING, SERVING]
        self.prompt = " ".join(f"w{n}" for n in range(words))
        request = generation_pb2.GenerateRequest(model=model, prompt=self.prompt)
        self.stream: Iterator[Any] = generation_pb2_grpc.GenerationStub(self.channel).Generate(request, timeout=60)
        self.text = next(self.stream).text  # it runs

    def sees_the_stop(self) -> None:
        assert [next(watch).status for watch in self.watches] == [NOT_SERVING, NOT_SERVING]


def check_gone(box: Daemon, processes: list[int]) -> None:
    assert [pid for pid in processes if alive(pid)] == []
    assert not box.socket.exists()
    assert list(box.runtime.rglob("*.sock")) == []


def test_running_calls_are_finished_and_new_ones_refused(short_path: Path, fake_folder: FakeFolder) -> None:
    with running(short_path) as box:
        add(box, fake_folder("words", kind="language", delay_ms=50))
        add(box, fake_folder("echo"))
        processes = pids(box)
        client = Client(box.address, "words", 30)
        for process in reversed(processes):  # as a service manager does: the children first, to be strict
            os.kill(process, signal.SIGTERM)
        for number in (signal.SIGINT, signal.SIGTERM):  # impatience changes nothing
            os.kill(box.pid, number)
        client.sees_the_stop()
        with pytest.raises(InferenceServerException, match="stopping") as caught:
            call(box.address, "echo")
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        pieces = list(client.stream)
        assert client.text + "".join(p.text for p in pieces) == client.prompt
        assert pieces[-1].finished.usage.completion_tokens == 30
        assert box.process.wait(10) == 0
        check_gone(box, processes)


def test_what_comes_in_at_the_last_moment_is_told_to_try_elsewhere(short_path: Path, fake_folder: FakeFolder) -> None:
    """Clients try UNAVAILABLE again, and CANCELLED they don't."""
    with running(short_path) as box:
        add(box, fake_folder("echo"))
        with Traffic(box.address, "echo", threads=4) as traffic:
            box.process.send_signal(signal.SIGTERM)
            assert box.process.wait(10) == 0
        assert {error.status for error in traffic.errors} == {"StatusCode.UNAVAILABLE"}


def test_what_takes_longer_than_the_drain_is_cancelled(short_path: Path, fake_folder: FakeFolder) -> None:
    with running(short_path, config="[server]\ndrain_seconds = 1\n") as box:
        add(box, fake_folder("words", kind="language", delay_ms=100))
        add(box, fake_folder("hung", kind="language", hang_on="HANG"))
        processes = pids(box)
        client = Client(box.address, "words", 300)
        stub = generation_pb2_grpc.GenerationStub(client.channel)
        hung = stub.Generate(generation_pb2.GenerateRequest(model="hung", prompt="HANG"), timeout=60)
        began = time.monotonic()
        os.kill(box.pid, signal.SIGTERM)
        client.sees_the_stop()
        for stream in (client.stream, hung):
            with pytest.raises(grpc.RpcError) as caught:
                list(stream)
            assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        assert time.monotonic() - began >= 1
        assert box.process.wait(10) == 0
        print(f"stopped after {time.monotonic() - began:.1f} s, drain 1 s")
        check_gone(box, processes)


def test_sigint_alone_stops_in_order(short_path: Path, fake_folder: FakeFolder) -> None:
    with running(short_path) as box:
        add(box, fake_folder("echo"))
        processes = pids(box)
        assert box.stop(signal.SIGINT, 10) == 0
        check_gone(box, processes)


def test_starting_and_stopping_leaves_nothing(short_path: Path, fake_folder: FakeFolder) -> None:
    """Stopped at other moments of the start, too: while children start, and while an engine loads."""
    with running(short_path) as box:
        add(box, fake_folder("slow", load_delay_ms=1000))
    for moment in ("sync started", "front-end 0 started", "engine of slow:1.0.0 started", "listening", "is ready"):
        box = Daemon(short_path)
        box.eventually(lambda box=box, moment=moment: any(moment in line for line in box.log))
        children = children_of(box.pid)
        assert children
        assert box.stop(seconds=10) == 0, moment
        check_gone(box, children)
    assert sorted(p.name for p in (short_path / "run").iterdir()) == ["engines"]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
