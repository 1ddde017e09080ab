"""Large tensors between a lease and an engine: a real loop in a thread, or a simulator where the engine must lie."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from engine_simulator import EngineSimulator
from shared_files import shared_file

from appliance import frames, limits
from appliance.answers import InferDone
from appliance.calls import AnyCall, InferCall, OutputWanted, ShareCall
from appliance.control import Route, RouteTable
from appliance.errors import FailedPrecondition, InternalError
from appliance.tensor_heads import TensorHead
from appliance.types import ModelKind, ModelSignature, ModelState
from appliance.worker import placing
from appliance.worker.arena import ArenaBudget
from appliance.worker.connection import (
    Connection,
    ConnectionPool,
    Expectation,
    close_idle_connections,
    give_back_idle_arenas,
)
from appliance.worker.descriptors import DescriptorInbox
from appliance.worker.lease import Lease
from appliance.worker.regions import SharedRegion
from appliance.worker.router import Router

SIGNATURE = ModelSignature(ModelKind.TENSOR, "test", (), ())
LARGE = limits.arena_threshold_bytes
MIB = 1024 * 1024


def head(size: int, name: str = "x", region: int = -1, offset: int = 0) -> TensorHead:
    return TensorHead(name, "UINT8", (size,), size, region, offset)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineSimulator]:
    made = EngineSimulator(str(tmp_path / "engine.sock"))
    yield made
    made.close()


@pytest.fixture
def router(engine: EngineSimulator) -> Router:
    return router_to(engine.path)


def router_to(path: str) -> Router:
    router = Router(10)
    router.apply(RouteTable(1, (Route("m", "1", ModelState.READY, True, path, SIGNATURE),)))
    return router


def pool_of(router: Router) -> ConnectionPool:
    backend = router.acquire("m")
    router.release(backend)
    return backend.pool


def echo(router: Router, *data: bytes) -> bytes:
    heads = tuple(head(len(d), f"t{i}") for i, d in enumerate(data))
    with Lease(router, "m") as lease:
        answer, body = lease.exchange(InferCall(tensors=heads), list(data))
        assert isinstance(answer, InferDone)
        assert [t.nbytes for t in answer.tensors] == [len(d) for d in data]
        return bytes(body)


@pytest.mark.parametrize("sizes", [(0,), (LARGE - 1,), (LARGE,), (LARGE, 0, 7), (3, LARGE, 70_001), (5_000_000,)])
def test_whatever_the_way_the_bytes_are_the_same(router: Router, sizes: tuple[int, ...]) -> None:
    data = [os.urandom(size) for size in sizes]
    for _ in range(3):
        assert echo(router, *data) == b"".join(data)


def test_one_arena_for_all_calls_and_a_larger_one_when_it_must(router: Router, engine: EngineSimulator) -> None:
    for size in (LARGE, LARGE, LARGE, 300_000, 200_000, 3 * MIB, 3 * MIB, LARGE):
        data = os.urandom(size)
        assert echo(router, data) == data
    sizes = [share.nbytes for share in engine.shared]
    assert sizes == sorted(set(sizes))
    assert 2 <= len(sizes) <= 3
    # Neither way do large tensors go through the socket any more.
    assert engine.calls[-1].tensors[0].region == 0
    assert engine.calls[-1].region_answer


def test_small_calls_go_as_ever(router: Router, engine: EngineSimulator) -> None:
    assert echo(router, b"small") == b"small"
    assert not engine.shared
    assert not engine.calls[0].region_answer


def test_an_answer_that_grows_finds_room_the_next_time(router: Router, engine: EngineSimulator) -> None:
    expectation = pool_of(router).expectation
    assert expectation.nbytes == 0
    echo(router, bytes(400_000))
    assert expectation.nbytes == 400_000
    # The inputs are small now, but such an answer is expected still.
    echo(router, b"x")
    assert engine.calls[-1].region_answer
    assert engine.calls[-1].tensors[0].region == -1


def test_an_expectation_follows_what_comes() -> None:
    expectation = Expectation()
    expectation.seen(1000)
    expectation.seen(0)
    assert 900 < expectation.nbytes < 1000
    for _ in range(500):
        expectation.seen(0)
    assert expectation.nbytes < 20
    expectation.seen(5000)
    assert expectation.nbytes == 5000


def test_without_memory_for_an_arena_the_socket_does(
    router: Router, engine: EngineSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "_budget", ArenaBudget(0))
    monkeypatch.setattr(placing.send, "__defaults__", (placing._budget,))
    data = os.urandom(2 * MIB)
    assert echo(router, data) == data
    assert not engine.shared


def test_two_at_a_time_have_an_arena_each(router: Router) -> None:
    with Lease(router, "m") as one, Lease(router, "m") as other:
        got = []
        for lease, letter in ((one, b"a"), (other, b"b")):
            got.append(lease.exchange(InferCall(tensors=(head(LARGE),)), [letter * LARGE])[1])
        assert [bytes(body) for body in got] == [b"a" * LARGE, b"b" * LARGE]


def test_an_answer_is_not_overwritten_before_its_lease_ends_nor_read_after(router: Router) -> None:
    echo(router, bytes(LARGE))  # makes the arena, and learns the size
    with Lease(router, "m") as lease:
        body = lease.exchange(InferCall(tensors=(head(LARGE),)), [b"a" * LARGE])[1]
        assert echo(router, b"b" * LARGE) == b"b" * LARGE
        assert bytes(body) == b"a" * LARGE
    with pytest.raises(ValueError, match="released"):
        bytes(body)
    # The connection is good for the next call.
    assert echo(router, b"c" * LARGE) == b"c" * LARGE
    assert len(pool_of(router)._idle) == 2


def test_a_cancelled_lease_gives_no_broken_connection_back(router: Router) -> None:
    echo(router, bytes(LARGE))
    with Lease(router, "m") as lease:
        lease.exchange(InferCall(tensors=(head(LARGE),)), [bytes(LARGE)])
        lease.cancel()
    assert len(pool_of(router)._idle) == 0
    assert echo(router, bytes(LARGE)) == bytes(LARGE)


def test_idle_arenas_are_given_back(router: Router) -> None:
    echo(router, bytes(LARGE))
    pool = pool_of(router)
    since = pool._idle[0].idle_since_ns
    give_back_idle_arenas(since + limits.arena_idle_ms_max * 1_000_000)
    assert len(pool._idle) == 1
    give_back_idle_arenas(since + limits.arena_idle_ms_max * 1_000_000 + 1)
    assert len(pool._idle) == 0
    assert echo(router, bytes(LARGE)) == bytes(LARGE)


def test_idle_connections_without_an_arena_stay(router: Router) -> None:
    echo(router, b"small")
    give_back_idle_arenas(1 << 62)
    assert len(pool_of(router)._idle) == 1


# --- an engine that lies ---------------------------------------------------------------------------------------------


def lying(path: Path, lie: Callable[[InferCall], tuple[InferDone, bytes]]) -> socket.socket:
    """Answers one call after another with ``lie``."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(4)
    decoder = frames.Decoder[AnyCall](AnyCall)

    def serve() -> None:
        sock, _ = listener.accept()
        inbox = DescriptorInbox(sock)
        try:
            while True:
                frame = inbox.next()
                assert frame is not None
                call = decoder.decode(frame[0])
                if isinstance(call, ShareCall):
                    inbox.close()
                elif isinstance(call, InferCall):
                    done, body = lie(call)
                    frames.send(sock, done, [body])
        except (frames.EndOfStream, OSError):
            sock.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener


@pytest.mark.parametrize(
    "heads",
    [
        (head(5, region=0, offset=2 * MIB),),
        (head(4 * MIB, region=0),),
        (head(5, region=0, offset=-1),),
        (head(-5, region=0, offset=10),),
        (head(5, region=0, offset=0), head(5, "y", region=0, offset=6)),
        (head(5, region=0, offset=2**62),),
    ],
    ids=["behind", "too long", "before", "negative", "gap", "far"],
)
def test_an_answer_outside_the_arena_is_an_error_and_costs_one_connection(
    tmp_path: Path, heads: tuple[TensorHead, ...]
) -> None:
    listener = lying(tmp_path / "liar.sock", lambda _call: (InferDone(heads), b""))
    with listener:
        router = router_to(str(tmp_path / "liar.sock"))
        with Lease(router, "m") as lease, pytest.raises(InternalError, match="cannot be read"):
            lease.exchange(InferCall(tensors=(head(LARGE),)), [bytes(LARGE)])
        assert router.in_flight == 0
        assert len(pool_of(router)._idle) == 0


def test_an_answer_in_an_arena_that_there_is_not(tmp_path: Path) -> None:
    with lying(tmp_path / "liar.sock", lambda _call: (InferDone((head(5, region=0),)), b"x" * LARGE)):
        router = router_to(str(tmp_path / "liar.sock"))
        with Lease(router, "m") as lease, pytest.raises(InternalError, match="cannot be read"):
            lease.exchange(InferCall(tensors=(head(3),)), [b"abc"])


# --- regions of clients ----------------------------------------------------------------------------------------------


def in_region(router: Router, region: SharedRegion, size: int = 10) -> InferDone:
    """Echoes the first bytes of the region to its byte 100."""
    call = InferCall(
        tensors=(head(size, region=region.number),),
        outputs=(OutputWanted("x", region=region.number, offset=100, room_bytes=size),),
    )
    with Lease(router, "m") as lease:
        answer, body = lease.exchange(call, [b""], [region])
        assert len(body) == 0
    assert isinstance(answer, InferDone)
    return answer


def test_a_region_is_handed_over_once(router: Router, engine: EngineSimulator) -> None:
    with shared_file(bytes(range(200))) as file:
        region = file.region(7)
        for _ in range(3):
            assert in_region(router, region).tensors == (head(10, region=7, offset=100),)
        assert file.read(10, 100) == bytes(range(10))
        assert [(s.region, s.nbytes, s.name) for s in engine.shared] == [(7, 200, "r")]


def test_a_region_and_an_arena_in_one_call(router: Router) -> None:
    with shared_file(b"0123456789") as file:
        region = file.region()
        call = InferCall(tensors=(head(LARGE, "a"), head(10, "b", region=1), head(3, "c")))
        with Lease(router, "m") as lease:
            _, body = lease.exchange(call, [b"a" * LARGE, b"", b"ccc"], [region])
            assert bytes(body) == b"a" * LARGE + b"0123456789" + b"ccc"


def test_engines_let_go_of_what_is_unregistered(router: Router) -> None:
    with shared_file(bytes(range(200))) as file:
        region, other = file.region(1), file.region(2)
        in_region(router, region)
        with Lease(router, "m") as lease:
            lease.exchange(InferCall(tensors=(head(1),)), [b"x"], [other])
        pool = pool_of(router)
        assert len(pool._idle) == 1
        region.unregistered = True
        close_idle_connections(Connection.is_outdated)
        assert len(pool._idle) == 0
        assert in_region(router, other)


def test_a_region_that_is_unregistered_in_the_middle_of_a_call(router: Router) -> None:
    with shared_file(bytes(range(200))) as file:
        region = file.region()
        with Lease(router, "m") as lease:
            lease.exchange(InferCall(tensors=(head(LARGE), head(5, "y", region=1))), [bytes(LARGE), b""], [region])
            region.unregistered = True
        # It was not given back, or not taken: either way the engine has lost it.
        assert not any(c.regions for c in pool_of(router)._idle)


def test_a_region_that_shrinks_costs_only_the_call(router: Router, engine: EngineSimulator) -> None:
    with shared_file(bytes(range(200))) as file:
        region = file.region()
        in_region(router, region)
        file.shrink(105)
        with pytest.raises(FailedPrecondition, match="has shrunk"):
            in_region(router, region)
        file.write(bytes(200))
        in_region(router, region)
        assert len(engine.shared) == 1
