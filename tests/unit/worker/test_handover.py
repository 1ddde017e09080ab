"""Connections that are handed from one instance to another, between real sockets in one event loop."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.types import ModelState
from appliance.worker.engine_socket import EngineSocket
from appliance.worker.handover import Diversion, Receiver, taken_over

READY, RESTARTING, QUARANTINED = ModelState.READY, ModelState.RESTARTING, ModelState.QUARANTINED
DEADLINE = 10.0


@pytest.fixture
def sockets() -> Iterator[list[EngineSocket]]:
    with tempfile.TemporaryDirectory(prefix="ia-") as folder:
        made = [EngineSocket(Path(folder) / f"{number}.sock") for number in range(3)]
        yield made
        for each in made:
            each.close()


def connected(to: EngineSocket, first: bytes) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(DEADLINE)
    client.connect(to.path)
    client.sendall(first)
    return client


def test_what_was_sent_before_comes_with_the_connection() -> None:
    receiver = Receiver()
    ours, theirs = socket.socketpair()
    ours.sendall(b"request")
    assert taken_over(receiver.theirs) == []
    with theirs:
        assert receiver.give(theirs)
    (taken,) = taken_over(receiver.theirs)
    assert taken.recv(100) == b"request"
    taken.sendall(b"answer")
    assert ours.recv(100) == b"answer"
    for each in (ours, taken):
        each.close()
    receiver.close()


def test_a_dead_engine_takes_nothing() -> None:
    receiver = Receiver()
    receiver.theirs.close()
    ours, theirs = socket.socketpair()
    assert not receiver.give(theirs)
    receiver.close()
    ours.close()
    theirs.close()


def test_an_engine_whose_supervisor_is_gone_is_given_nothing_more() -> None:
    receiver = Receiver()
    receiver._ours.close()
    assert taken_over(receiver.theirs) == []
    receiver.close()


def test_a_socket_without_an_engine_takes_nothing(sockets: list[EngineSocket]) -> None:
    ours, theirs = socket.socketpair()
    assert not sockets[0].take_over(theirs)
    sockets[0].new_life()
    assert sockets[0].take_over(theirs)
    sockets[0].end_life()
    assert not sockets[0].take_over(theirs)
    ours.close()
    theirs.close()


def test_those_that_are_ready_take_turns(sockets: list[EngineSocket]) -> None:
    async def scene() -> None:
        ends = [each.new_life().theirs for each in sockets]
        diversion = Diversion()
        diversion.follow(zip((RESTARTING, READY, READY), sockets, strict=True))
        clients = [connected(sockets[0], b"%d" % number) for number in range(4)]
        taken: list[list[socket.socket]] = [[], [], []]
        while sum(map(len, taken)) < 4:
            await asyncio.sleep(0)
            for place, end in enumerate(ends):
                taken[place] += taken_over(end)
        assert [len(found) for found in taken] == [0, 2, 2]
        assert sorted(s.recv(10) for found in taken for s in found) == [b"0", b"1", b"2", b"3"]
        for each in (*clients, *(s for found in taken for s in found)):
            each.close()
        diversion.follow([])

    asyncio.run(asyncio.wait_for(scene(), DEADLINE))


@pytest.mark.parametrize(
    "states",
    [(RESTARTING, RESTARTING, QUARANTINED), (READY, READY, READY)],
    ids=["nobody to take it", "it is back"],
)
def test_otherwise_calls_wait_for_their_own_engine(
    sockets: list[EngineSocket], states: tuple[ModelState, ModelState, ModelState]
) -> None:
    async def scene() -> None:
        ends = [each.new_life().theirs for each in sockets]
        diversion = Diversion()
        diversion.follow(zip((RESTARTING, READY, READY), sockets, strict=True))
        diversion.follow(zip(states, sockets, strict=True))
        client = connected(sockets[0], b"mine")
        for _ in range(3):  # turns of the loop, in any of which a reader would run
            await asyncio.sleep(0)
        assert [taken_over(end) for end in ends] == [[], [], []]
        with sockets[0].listener.accept()[0] as accepted:
            assert accepted.recv(10) == b"mine"
        client.close()

    asyncio.run(asyncio.wait_for(scene(), DEADLINE))


def test_nobody_takes_it_then_the_client_hears_at_once(sockets: list[EngineSocket]) -> None:
    async def scene() -> None:
        diversion = Diversion()
        diversion.follow(zip((RESTARTING, READY, READY), sockets, strict=True))  # ready, they say
        client = connected(sockets[0], b"x")
        client.setblocking(False)
        with pytest.raises(ConnectionResetError):
            await asyncio.get_running_loop().sock_recv(client, 10)
        client.close()
        diversion.follow([])

    asyncio.run(asyncio.wait_for(scene(), DEADLINE))
