"""Clients that vanish in the middle of a stream, and two hundred of them at once."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from daemon_process import DEADLINE, Daemon
from rpc_failures import fails
from settled_counters import eventually_cancelled, settled_counters
from triton_calls import SECONDS, raw, stub

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc

CLIENTS = 200
# Says that its stream has begun, and then reads no more.
STREAMING_CLIENT = """
import sys, time, grpc
from appliance.pb.appliance.v1 import generation_pb2 as pb, generation_pb2_grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    request = pb.GenerateRequest(model="endless", prompt="a")
    answers = generation_pb2_grpc.GenerationStub(channel).Generate(request)
    next(answers)
    print("begun", flush=True)
    for _ in answers:
        pass
"""


def begin(address: str) -> subprocess.Popen[str]:
    """A client in the middle of its stream."""
    client = subprocess.Popen([sys.executable, "-c", STREAMING_CLIENT, address], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "begun\n"
    return client


def kill(client: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    os.kill(client.pid, number)
    client.wait(DEADLINE)
    assert client.stdout is not None
    client.stdout.close()


def test_a_client_killed_in_the_middle_of_its_stream_frees_the_slot(client_daemon: Daemon) -> None:
    before = settled_counters(client_daemon, "endless")
    client = begin(client_daemon.address)
    with grpc.insecure_channel(client_daemon.address) as channel:
        # One sequence at a time: this one waits for the slot that the client holds.
        request = generation_pb2.GenerateRequest(
            model="endless", prompt="a", options=generation_pb2.Options(max_tokens=3)
        )
        request.options.sampling.temperature = 0
        answers = generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=SECONDS)
        kill(client)
        assert "".join(a.text for a in answers) == "bcd"
    eventually_cancelled(client_daemon, "endless", before)
    after = client_daemon.model("endless")
    assert after.counters.success_count == before.success_count + 1
    assert after.restarts == 0


def at_once(address: str, ask: Callable[[grpc.Channel, int], str], rounds: int) -> "Counter[str]":
    """What becomes of the calls of 200 clients, each with a connection of its own: what ``ask`` says, or the error."""
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    together = threading.Barrier(CLIENTS)

    def client(number: int) -> None:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            together.wait(SECONDS)
            for _ in range(rounds):
                try:
                    outcome = ask(channel, number)
                except grpc.RpcError as error:
                    call: Any = error  # what stubs raise is a grpc.Call too
                    outcome = f"{call.code().name}: {call.details()}"
                with lock:
                    outcomes[outcome] += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sum(outcomes.values()) == CLIENTS * rounds
    return outcomes


def test_200_clients_at_once(client_daemon: Daemon) -> None:
    """Every call of every client is answered, or told in words that the daemon is full."""

    def ask(channel: grpc.Channel, number: int) -> str:
        data = np.full(6, number, np.float32).tobytes()
        request = raw("pair", ("a", "FP32", [2, 3], data), ("b", "INT64", [0], b""), model_version="1.0.0")
        response = stub(channel).ModelInfer(request, timeout=DEADLINE, wait_for_ready=True)
        return "right" if response.raw_output_contents[0] == data else "another client's answer"

    outcomes = at_once(client_daemon.address, ask, rounds=5)
    full = {o for o in outcomes if o.startswith("RESOURCE_EXHAUSTED: ") and "its bound is" in o}
    assert set(outcomes) <= {"right", *full}, outcomes
    assert outcomes["right"] >= CLIENTS
    assert ask_once(client_daemon, ask) == "right"


def test_200_clients_for_two_places(client_daemon: Daemon) -> None:
    def ask(channel: grpc.Channel, number: int) -> str:
        request = generation_pb2.GenerateRequest(model="words", prompt=f"client {number} asks")
        answers = generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=DEADLINE, wait_for_ready=True)
        return "right" if "".join(a.text for a in answers) == request.prompt else "another client's answer"

    outcomes = at_once(client_daemon.address, ask, rounds=1)
    words = "RESOURCE_EXHAUSTED: 2 requests already wait"
    assert set(outcomes) == {"right", words}, outcomes
    assert ask_once(client_daemon, ask) == "right"


def ask_once(daemon: Daemon, ask: Callable[[grpc.Channel, int], str]) -> str:
    with grpc.insecure_channel(daemon.address) as channel:
        return ask(channel, 0)


def test_a_full_queue_says_so(client_daemon: Daemon) -> None:
    """And no longer than it is full: who leaves makes room."""
    with grpc.insecure_channel(client_daemon.address) as channel:
        ask = generation_pb2_grpc.GenerationStub(channel).Generate
        request = generation_pb2.GenerateRequest(model="words", prompt="word " * 500)
        inside = [ask(request), ask(request)]
        for stream in inside:
            next(stream)
        with fails("RESOURCE_EXHAUSTED", "2 requests already wait"):
            next(ask(request, timeout=SECONDS))
        inside[0].cancel()

        def let_in() -> bool:
            try:
                return bool(list(ask(generation_pb2.GenerateRequest(model="words", prompt="in"), timeout=SECONDS)))
            except grpc.RpcError:
                return False

        client_daemon.eventually(let_in)
        inside[1].cancel()
