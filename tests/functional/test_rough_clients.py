"""Clients that vanish in the middle of a stream, and two hundred of them at once."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter

import grpc
import numpy as np
from daemon_process import DEADLINE, Daemon
from rpc_failures import fails
from triton_calls import SECONDS, raw, stub

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc

CLIENTS = 200
ROUNDS = 5
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
    before = client_daemon.model("endless").counters
    client = begin(client_daemon.address)
    with grpc.insecure_channel(client_daemon.address) as channel:
        # One sequence at a time: this one waits for the slot that the client holds.
        request = generation_pb2.GenerateRequest(model="endless", prompt="a", options={"max_tokens": 3})
        request.options.sampling.temperature = 0
        answers = generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=SECONDS)
        kill(client)
        assert "".join(a.text for a in answers) == "bcd"
    client_daemon.eventually(
        lambda: client_daemon.model("endless").counters.cancel_count == before.cancel_count + 1, SECONDS
    )
    after = client_daemon.model("endless")
    assert after.counters.success_count == before.success_count + 1
    assert (after.counters.running, after.counters.waiting, after.restarts) == (0, 0, 0)


def test_200_clients_at_once(client_daemon: Daemon) -> None:
    """Every call of every client is answered, or told in words that the daemon is full."""
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    together = threading.Barrier(CLIENTS)

    def client(number: int) -> None:
        data = np.full(6, number, np.float32).tobytes()
        request = raw("pair", ("a", "FP32", [2, 3], data), ("b", "INT64", [0], b""), model_version="1.0.0")
        with grpc.insecure_channel(client_daemon.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            ask = stub(channel).ModelInfer
            together.wait(SECONDS)
            for _ in range(ROUNDS):
                try:
                    response = ask(request, timeout=DEADLINE, wait_for_ready=True)
                    outcome = "right" if response.raw_output_contents[0] == data else "another client's answer"
                except grpc.RpcError as error:
                    outcome = f"{error.code().name}: {error.details()}"  # type: ignore[attr-defined]  # is a grpc.Call
                with lock:
                    outcomes[outcome] += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert sum(outcomes.values()) == CLIENTS * ROUNDS
    full = [o for o in outcomes if o.startswith("RESOURCE_EXHAUSTED: ") and "its bound is" in o]
    assert set(outcomes) <= {"right", *full}, outcomes
    assert outcomes["right"] >= CLIENTS

    with grpc.insecure_channel(client_daemon.address) as channel:
        request = raw("pair", ("a", "FP32", [2, 3], bytes(24)), ("b", "INT64", [0], b""))
        assert stub(channel).ModelInfer(request, timeout=SECONDS).model_version == "2.0.0"


def test_a_full_queue_says_so(client_daemon: Daemon) -> None:
    """ "endless" lets two calls wait or run as far as a front-end is concerned."""
    with grpc.insecure_channel(client_daemon.address) as channel:
        ask = generation_pb2_grpc.GenerationStub(channel).Generate
        request = generation_pb2.GenerateRequest(model="endless", prompt="a")
        running = ask(request)
        next(running)
        waiting = ask(request)
        client_daemon.eventually(lambda: client_daemon.model("endless").counters.waiting == 1)
        with fails("RESOURCE_EXHAUSTED", "'endless'.*2", "try again later"):
            next(ask(request, timeout=SECONDS))
        running.cancel()
        waiting_first = next(waiting)
        assert waiting_first.model == "endless"
        waiting.cancel()
    client_daemon.eventually(lambda: client_daemon.model("endless").counters.running == 0)
