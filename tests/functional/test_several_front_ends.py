"""Two front-ends on one port: both answer, a switch drops nothing on either, and one may die without the other."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as oip
from daemon_process import DEADLINE, Daemon
from running import activate, add, proc_status, running
from traffic import fp32
from tritonclient.utils import InferenceServerException

CONFIG = "[server]\naddress = '127.0.0.1:0'\nfront_ends = 2\n"
CLIENTS = 16


@pytest.fixture
def box(fake_folder: Callable[..., Path]) -> Iterator[Daemon]:
    with running(config=CONFIG) as daemon:
        add(daemon, fake_folder("echo"))
        yield daemon


def client_of(box: Daemon) -> oip.InferenceServerClient:
    """On a connection of its own: grpc would share one among all channels to the same address."""
    return oip.InferenceServerClient(box.address, channel_args=[("grpc.use_local_subchannel_pool", 1)])


def connections_by_process(box: Daemon) -> dict[int, int]:
    """How many established TCP connections each front-end has (proc_net_tcp(5): state 01 is ESTABLISHED)."""
    port = int(box.address.rsplit(":", 1)[1])
    # grpc listens on IPv6 sockets that take IPv4 as well.
    tables = [Path(f"/proc/net/{table}").read_text().splitlines()[1:] for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    inodes = {row[9] for row in rows if row[3] == "01" and int(row[1].split(":")[1], 16) == port}
    counts: dict[int, int] = {}
    for number in range(2):
        pid = box.process_of(f"front-end {number}")
        counts[pid] = 0
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                counts[pid] += os.readlink(fd).removeprefix("socket:[").rstrip("]") in inodes
    return counts


def infer(client: oip.InferenceServerClient) -> float:
    result = client.infer("echo", fp32(np.ones(1)), client_timeout=DEADLINE)
    return float(result.as_numpy("out_x")[0])


def test_both_share_the_port(box: Daemon) -> None:
    assert len(box.status().addresses) == 2  # one for TCP, one for the unix socket
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_of(box)) for _ in range(CLIENTS)]
        assert [infer(c) for c in clients] == [1.0] * CLIENTS
        counts = connections_by_process(box)
    assert sum(counts.values()) == CLIENTS
    # The kernel spreads connections by a hash: that one of two gets none of 16 happens once in 32,768 runs.
    assert all(counts.values()), counts


def test_a_switch_drops_nothing_on_either(box: Daemon, fake_folder: Callable[..., Path]) -> None:
    add(box, fake_folder("echo", "2.0.0", constant=1), no_activate=True)
    errors: list[str] = []
    counts = [0] * CLIENTS
    stop = threading.Event()

    def hammer(index: int) -> None:
        with client_of(box) as client:
            while not stop.is_set():
                try:
                    infer(client)
                    counts[index] += 1
                except InferenceServerException as error:
                    errors.append(str(error))

    threads = [threading.Thread(target=hammer, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for number in range(10):
        activate(box, "echo", ("2.0.0", "1.0.0")[number % 2])
        before = min(counts)
        box.eventually(lambda before=before: min(counts) > before)
    stop.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert errors == []


@pytest.mark.parametrize("number", [0, 1])
def test_one_dies_and_the_other_serves(box: Daemon, number: int) -> None:
    victim, other = box.process_of(f"front-end {number}"), box.process_of(f"front-end {1 - number}")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_of(box)) for _ in range(CLIENTS)]
        for client in clients:
            infer(client)
        survivors = connections_by_process(box)[other]
        os.kill(victim, signal.SIGKILL)
        box.eventually(lambda: not proc_status(victim))
        answered = 0
        for client in clients:
            with contextlib.suppress(InferenceServerException):
                answered += infer(client) == 1.0
        assert answered >= survivors
        # The others connect again by themselves.
        box.eventually(lambda: all(answers(c) for c in clients))
    box.eventually(lambda: pid_of(box, number) not in (0, victim))
    assert box.process_of(f"front-end {1 - number}") == other


def pid_of(box: Daemon, number: int) -> int:
    """0 while nobody answers on the unix socket, which is number 0's."""
    try:
        return box.process_of(f"front-end {number}")
    except grpc.RpcError:
        return 0


def answers(client: oip.InferenceServerClient) -> bool:
    try:
        return infer(client) == 1.0
    except InferenceServerException:
        return False
