"""The gRPC servers of a front-end: TCP with the data plane, and on number 0 the unix socket with Admin besides.

grpc's server offers every service on every port, so what only the local operator may call needs a server of its own.
It has threads of its own too: grpc gives a call its thread when its headers have come, before the gate, and without a
message the call keeps it. Whoever does that over TCP, on purpose or not, must not keep the operator out.
"""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from appliance import limits
from appliance.address import parse_address
from appliance.config import Config, ServerConfig, TlsConfig
from appliance.osutil.rest import Rest
from appliance.pb.appliance.v1 import admin_pb2, generation_pb2
from appliance.pb.inference import grpc_service_pb2
from appliance.serve import unix_socket
from appliance.serve.admin import AdminServicer
from appliance.serve.asking import Asks
from appliance.serve.comparing import Comparing
from appliance.serve.express import grpc_core
from appliance.serve.express.answers import Answers
from appliance.serve.express.lane import Lane
from appliance.serve.express.means import Means
from appliance.serve.express.plain import PlainCalls
from appliance.serve.express.stream_lane import StreamLane
from appliance.serve.gate import Gate
from appliance.serve.generation import GenerationServicer
from appliance.serve.handlers import generic_handler, parser, well_formed
from appliance.serve.health import HealthServicer, Readiness
from appliance.serve.infer import Received
from appliance.serve.oip import InferenceServicer
from appliance.serve.refused import ListenError
from appliance.serve.shared_memory import SharedMemory
from appliance.serve.tls import Tls
from appliance.worker.router import Router

INFERENCE = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
GENERATION = generation_pb2.DESCRIPTOR.services_by_name["Generation"]
ADMIN = admin_pb2.DESCRIPTOR.services_by_name["Admin"]
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
_CANCEL_SECONDS = 2.0
_parse = parser(INFERENCE.methods_by_name["ModelInfer"])


def _parse_infer(data: bytes) -> Received:
    return well_formed(_parse(data))  # type: ignore[no-any-return]  # a request of this method


class Servers:
    """All that listens in one front-end. ``listen`` binds, ``start`` answers, ``stop`` ends."""

    def __init__(
        self,
        config: Config,
        router: Router,
        readiness: Readiness,
        gate: Gate,
        supervisor: Asks,
        contended: Callable[[], bool] = lambda: False,
    ) -> None:
        """``contended()``: whether throughput engines compute on this front-end's core."""
        self._config = config
        self._contended = contended
        self._gate = gate
        self._readiness = readiness
        threads = config.server.threads
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="call")
        self._local_pool = ThreadPoolExecutor(threads, thread_name_prefix="local")
        self.shared = SharedMemory(config.server.shared_memory, supervisor)
        self.comparing = Comparing(router)
        inference = InferenceServicer(router, readiness, gate, supervisor, self.shared, self.comparing)
        self._answers = Answers(router)
        plain = PlainCalls(router, self.comparing.trials)
        self._means = Means(plain, gate, self._answers, inference.inference, _parse_infer, threads)
        self._servicers: list[tuple[ServiceDescriptor, object]] = [
            (INFERENCE, inference),
            (GENERATION, GenerationServicer(router, self.comparing)),
        ]
        self._admin = AdminServicer(supervisor, config.state_dir / "incoming", router)
        self._servers: list[grpc.Server] = []
        self._tls: Tls | None = None

    def listen_tcp(self) -> str:
        """Binds the TCP address and returns it with its real port. Raises ListenError."""
        config = self._config.server
        server = self._server(self._servicers, self.pool)
        if config.tls.certificate or config.tls.key or config.tls.client_ca:
            self._tls = Tls(config.tls)
        try:
            if self._tls:
                port = server.add_secure_port(config.address, self._tls.credentials)
            else:
                port = server.add_insecure_port(config.address)
        except RuntimeError:
            raise ListenError(_why_not(config.address)) from None
        return str(parse_address(config.address)._replace(port=port))

    def listen_unix(self, path: Path) -> None:
        """Binds the unix socket, 0660. Raises ListenError."""
        unix_socket.prepare(path)
        server = self._server([*self._servicers, (ADMIN, self._admin)], self._local_pool)
        try:
            with unix_socket.group_only():
                server.add_insecure_port(f"unix:{path}")
        except RuntimeError:
            raise ListenError(f"cannot listen on the unix socket {path}: is its folder writable?") from None

    def _server(self, servicers: list[tuple[ServiceDescriptor, object]], pool: ThreadPoolExecutor) -> grpc.Server:
        options = _options(self._config.server, self._config.front_end_count)
        # One thread stays free for the front-end's own sign of life.
        calls_max = max(1, self._config.server.threads - 1)
        server = grpc.server(pool, options=options, maximum_concurrent_rpcs=calls_max)
        names = [service.full_name for service, _ in servicers]
        known = _Reflection(self._gate, [*names, HEALTH.full_name, REFLECTION.full_name])
        server.add_generic_rpc_handlers(
            [generic_handler(s, servicer, self._gate) for s, servicer in [*servicers, (REFLECTION, known)]]
        )
        health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(self._readiness), server)
        self._servers.append(server)
        return server

    def start(self) -> None:
        """From here on calls are answered; connections made since ``listen`` have waited."""
        self._answers.start()
        for server in self._servers:
            grpc_core.start(server, (Lane(self._means), StreamLane(self._means)), Rest(self._contended))

    def stop(self, grace_seconds: float = 0.0) -> None:
        """Takes nothing new, lets what runs (and answers on their way out) have its grace, then cancels it."""
        self.comparing.copies.stop()
        for stopped in [server.stop(grace_seconds) for server in self._servers]:
            stopped.wait(grace_seconds + _CANCEL_SECONDS)

    def flush(self, seconds: float) -> None:
        """Waits until calls that have come so far have their answers written, at most ``seconds``; takes new ones on."""
        until = time.monotonic() + seconds
        for server in self._servers:
            grpc_core.flush(server, until)

    def reload(self, tls: TlsConfig) -> str:
        """Reads certificates anew; why the old ones stay in use, "" where they don't."""
        return self._tls.reload(tls) if self._tls else ""


class _Reflection(reflection.ReflectionServicer):  # type: ignore[misc]  # grpc_reflection carries no types
    """A stream here holds a thread as any other does, so it is counted as one."""

    def __init__(self, gate: Gate, names: list[str]) -> None:
        super().__init__(names)
        self._gate = gate

    def ServerReflectionInfo(self, request_iterator: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802 - gRPC's
        self._gate.enter_stream()
        try:
            yield from super().ServerReflectionInfo(request_iterator, context)
        finally:
            self._gate.leave_stream()


def service_names() -> tuple[str, ...]:
    """The services that health answers for by name."""
    return (INFERENCE.full_name, GENERATION.full_name)


def _options(config: ServerConfig, front_ends: int) -> list[tuple[str, int]]:
    message_bytes = config.max_message_mib * 1024 * 1024
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # Alone, a second daemon on the same port must fail and not share it.
        ("grpc.so_reuseport", int(front_ends > 1)),
        # A client whose cable was pulled is seen after this, and its engine work ends.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", limits.keepalive_ms_min),
        ("grpc.max_metadata_size", limits.metadata_bytes_max),
        ("grpc.absolute_max_metadata_size", 2 * limits.metadata_bytes_max),
    ]


def _why_not(address: str) -> str:
    """GRPC says only that it failed: binding once more, by hand, says why."""
    host, port = parse_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen()
    except OSError as error:
        return f"cannot listen on {address}: {error.strerror or error}; free it, or set server.address to another"
    return f"cannot listen on {address}; free it, or set server.address to another"
