"""Connections that take no part: calls without a message, streams that are never used, watchers that read nothing."""

import queue
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serve_rig import Rig

from appliance import limits
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc

PATIENCE = 20
THREADS = 16
LIVE = "/inference.GRPCInferenceService/ServerLive"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(threads=THREADS) as made:
        yield made


class Idle:
    """Many calls whose headers came and whose messages never do; ``refused`` gets the statuses of those that end."""

    def __init__(self, address: str, path: str, *, streams: bool) -> None:
        self.refused: queue.SimpleQueue[grpc.StatusCode] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(3 * THREADS):
            if streams:
                stream: Any = self._channel.stream_stream(path)
                self._watch(stream(self._nothing()))
            else:
                unary: Any = self._channel.stream_unary(path)
                unary.future(self._nothing()).add_done_callback(lambda done: self.refused.put(done.code()))

    def _watch(self, call: Any) -> None:
        if not call.add_callback(lambda: self.refused.put(call.code())):
            self.refused.put(call.code())  # it has ended already

    def _nothing(self) -> Iterator[bytes]:
        self._stop.wait()
        yield from ()

    def __enter__(self) -> "Idle":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._channel.close()


def live(channel: grpc.Channel) -> bool:
    return pb_grpc.GRPCInferenceServiceStub(channel).ServerLive(pb.ServerLiveRequest(), timeout=PATIENCE).live


def test_calls_without_a_message_stop_neither_the_beat_nor_the_operator(rig: Rig) -> None:
    with Idle(rig.address, LIVE, streams=False) as idle:
        assert idle.refused.get(timeout=PATIENCE) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert rig.servers.pool.submit(int).result(PATIENCE) == 0
        assert live(rig.admin)
    assert live(rig.admin)


def test_unused_reflection_streams_are_bounded_as_others_are(rig: Rig) -> None:
    with Idle(rig.address, REFLECTION, streams=True) as idle:
        # All but those that may stay: until each has been told, they hold what `live` needs.
        for _ in range(3 * THREADS - THREADS // 2):
            assert idle.refused.get(timeout=PATIENCE) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert live(rig.channel)
        assert rig.servers.pool.submit(int).result(PATIENCE) == 0


# --- a watcher whose HTTP/2 window is closed -------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """RFC 9113 section 4.1."""
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header field without indexing, RFC 7541 section 6.2.2."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


def deaf_watcher(address: str, watches: int) -> socket.socket:
    """Calls Health.Watch on streams into which nothing may be sent: SETTINGS_INITIAL_WINDOW_SIZE is 0."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=PATIENCE)
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/grpc.health.v1.Health/Watch")]
    fields += [(b":authority", b"x"), (b"content-type", b"application/grpc"), (b"te", b"trailers")]
    headers = b"".join(literal(*field) for field in fields)
    out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, struct.pack(">HI", 4, 0))
    for number in range(watches):
        stream = 1 + 2 * number
        out += frame(1, 4, stream, headers) + frame(0, 1, stream, b"\0" * 5)
    sock.sendall(out)
    return sock


def read_until_reset(sock: socket.socket) -> None:
    """Reads frames until one is RST_STREAM."""
    data = b""
    while True:
        while len(data) >= 9:
            length = int.from_bytes(data[:3], "big")
            if data[3] == 3:
                return
            if len(data) < 9 + length:
                break
            data = data[9 + length :]
        more = sock.recv(65536)
        assert more, "the server closed the connection"
        data += more


def test_watchers_that_take_nothing_hold_nobody_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "health_send_ms_max", 200)
    stub = health_pb2_grpc.HealthStub(rig.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=3 * PATIENCE)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    with deaf_watcher(rig.address, watches=2 * limits.health_senders) as deaf:
        read_until_reset(deaf)  # they are there, and the first has been let go
        applied = threading.Thread(target=rig.apply, kwargs={"ready": False}, daemon=True)
        applied.start()
        applied.join(PATIENCE)
        assert not applied.is_alive()
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        check = stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=PATIENCE)
        assert check.status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


# --- a message of nothing but fields ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/inference.GRPCInferenceService/ModelInfer", "/appliance.v1.Generation/Chat"])
def test_a_message_of_countless_fields_is_refused_unparsed(rig: Rig, path: str) -> None:
    call: Any = rig.channel.unary_stream(path) if path.endswith("Chat") else rig.channel.unary_unary(path)
    with pytest.raises(grpc.RpcError) as caught:
        list(call(b"\x2a\0" * 1_000_000, timeout=PATIENCE))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "fields" in str(caught.value.details())
