"""The way to the daemon: a gRPC channel over its unix socket or TCP, and failures turned into sentences and exit codes."""

import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

# Else gRPC's C++ core writes lines of its own beside ours for each handshake that fails; it reads this when imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from appliance.address import parse_address
from appliance.cli.exit_codes import CommandFailed, ExitCode, of_status
from appliance.cli.options import Target
from appliance.config_file import load_config
from appliance.errors import ApplianceError
from appliance.limits import config_message_mib_max
from appliance.pb.appliance.v1 import admin_pb2, admin_pb2_grpc, generation_pb2_grpc
from appliance.pb.inference import grpc_service_pb2_grpc

# Of the packaged daemon: what an operator who is not root means when no daemon of their own runs.
SYSTEM_SOCKET = Path("/run/inference-appliance/appliance.sock")
_CONNECT_SECONDS = 5.0
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", config_message_mib_max * 1024 * 1024),
    ("grpc.max_send_message_length", config_message_mib_max * 1024 * 1024),
    # A daemon on this machine or in this room is never behind a proxy, whatever the environment says.
    ("grpc.enable_http_proxy", 0),
]


class Client:
    """A connection to one daemon, made when entered. Its stubs' errors are turned into CommandFailed by ``failures``."""

    def __init__(self, target: Target) -> None:
        self.timeout = target.timeout
        self._target = target
        self._channel: grpc.Channel | None = None
        self.place = ""

    def __enter__(self) -> "Client":
        self._channel, self.place = _connect(self._target)
        self.admin = admin_pb2_grpc.AdminStub(self._channel)
        self.generation = generation_pb2_grpc.GenerationStub(self._channel)
        self.inference = grpc_service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Ctrl-C inside gRPC can leave its locks held, and then closing would wait for ever; main() ends the process.
        if self._channel is not None and kind is not KeyboardInterrupt:
            self._channel.close()

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Turns the gRPC errors of its block into CommandFailed."""
        try:
            yield
        except grpc.RpcError as error:
            raise explain(error, self.place) from error

    def status(self) -> "admin_pb2.StatusResponse":
        """What runs."""
        with self.failures():
            return self.admin.Status(admin_pb2.StatusRequest(), timeout=self.timeout or _CONNECT_SECONDS)


def explain(error: grpc.RpcError, place: str) -> CommandFailed:
    """A failed call as a sentence and an exit code."""
    # What a stub raises is also a grpc.Call, which the types don't tell.
    call: Any = error
    code: grpc.StatusCode = call.code()
    details = " ".join((call.details() or "").split())
    if code is grpc.StatusCode.UNAVAILABLE and details.startswith("failed to connect to all addresses"):
        if "CERTIFICATE_VERIFY_FAILED" in details or "Peer name" in details:
            return CommandFailed(
                ExitCode.UNREACHABLE,
                f"the certificate of {place} is not trusted: --tls-ca must hold the authority that signed it, its names "
                "must include this host, and it must not have expired",
            )
        return CommandFailed(
            ExitCode.UNREACHABLE,
            f"the daemon at {place} does not speak the same protocol. With TLS, give --tls-ca, and --tls-cert and "
            "--tls-key if it asks for a client certificate; without, leave them out",
        )
    if code is grpc.StatusCode.UNAVAILABLE and _is_lost_connection(details):
        return CommandFailed(ExitCode.UNREACHABLE, f"the connection to the daemon at {place} was lost")
    # What grpc's server says of a service that it has not.
    if code is grpc.StatusCode.UNIMPLEMENTED and details in ("", "Method not found!"):
        details = (
            f"the daemon does not offer this at {place}: what operators ask (status, models) is answered on its unix "
            "socket only, on the machine itself"
        )
        return CommandFailed(ExitCode.DENIED, details)
    if code is grpc.StatusCode.CANCELLED and details in ("", "CANCELLED"):
        # What a server that closes says of the calls that it cuts off.
        details = f"the daemon at {place} ended the call; it may be stopping"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CommandFailed(ExitCode.TIMED_OUT, f"no answer from {place} in time; allow more with --timeout")
    return CommandFailed(of_status(code.name), details or f"the daemon answered {code.name}")


def _is_lost_connection(details: str) -> bool:
    """The library's own words for a peer that went away; a daemon's answers are sentences of ours."""
    return details in ("Socket closed", "Broken pipe") or details.startswith(("recvmsg:", "sendmsg:", "GOAWAY"))


def _connect(target: Target) -> tuple[grpc.Channel, str]:
    """A channel to a listening socket, and how to call that place in messages; raises CommandFailed (UNREACHABLE)."""
    if target.address is not None:
        return _connect_tcp(target, target.address)
    if target.tls_ca or target.tls_cert or target.tls_key:
        raise CommandFailed(ExitCode.USAGE, "TLS is for --address; the unix socket needs none")
    path = find_socket(target)
    # gRPC only says "UNAVAILABLE" where the plain call says what is wrong, and it tries for as long as it may.
    with socket.socket(socket.AF_UNIX) as probe:
        _probe(probe, str(path), f"unix socket {path}")
    return grpc.insecure_channel(f"unix:{path}", options=_CHANNEL_OPTIONS), str(path)


def _connect_tcp(target: Target, text: str) -> tuple[grpc.Channel, str]:
    try:
        address = parse_address(text)
    except ValueError as error:
        raise CommandFailed(ExitCode.USAGE, f"--address {text}: {error}") from None
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise CommandFailed(ExitCode.UNREACHABLE, f"{address.host}: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as probe:
        _probe(probe, where, str(address))
    if not (target.tls_ca or target.tls_cert or target.tls_key):
        return grpc.insecure_channel(str(address), options=_CHANNEL_OPTIONS), str(address)
    if bool(target.tls_cert) != bool(target.tls_key):
        raise CommandFailed(ExitCode.USAGE, "--tls-cert and --tls-key belong together: give both, or neither")
    _check_pem(target)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_pem(target.tls_ca),
        private_key=_pem(target.tls_key),
        certificate_chain=_pem(target.tls_cert),
    )
    return grpc.secure_channel(str(address), credentials, options=_CHANNEL_OPTIONS), str(address)


def _probe(probe: socket.socket, where: object, place: str) -> None:
    probe.settimeout(_CONNECT_SECONDS)
    try:
        probe.connect(where)  # type: ignore[arg-type]  # a path or what getaddrinfo gave
    except PermissionError:
        raise CommandFailed(
            ExitCode.DENIED, f"{place}: permission denied; use sudo, or join the group that owns the socket"
        ) from None
    except TimeoutError:
        raise CommandFailed(ExitCode.UNREACHABLE, f"{place} does not answer") from None
    except OSError as error:
        raise CommandFailed(
            ExitCode.UNREACHABLE,
            f"no daemon at {place} ({error.strerror}); start it with `systemctl start inference-appliance` or "
            "`appliance serve`",
        ) from None


def find_socket(target: Target) -> Path:
    """The unix socket named, else the configuration's, else the packaged daemon's when only that one exists."""
    if target.socket is not None:
        return target.socket
    try:
        path = load_config(target.config).unix_socket
    except ApplianceError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, error.message) from None
    # By its folder: what is in there only the daemon's group may see, and then the answer is "permission denied".
    if target.config is None and not path.exists() and SYSTEM_SOCKET.parent.is_dir():
        return SYSTEM_SOCKET
    return path


def _check_pem(target: Target) -> None:
    """Of a bad file gRPC only says that it could not connect; raises CommandFailed that says which and why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in (target.tls_ca, target.tls_cert, target.tls_key):
        _pem(path)
    try:
        if target.tls_ca:
            context.load_verify_locations(target.tls_ca)
    except ssl.SSLError:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"--tls-ca {target.tls_ca} holds no certificate in PEM") from None
    try:
        if target.tls_cert and target.tls_key:
            # An empty password instead of a question on the terminal.
            context.load_cert_chain(target.tls_cert, target.tls_key, password="")
    except ssl.SSLError as error:
        why = (error.reason or "not PEM").replace("_", " ").lower()
        text = f"--tls-cert {target.tls_cert} and --tls-key {target.tls_key} don't work together: {why}"
        raise CommandFailed(ExitCode.INVALID_INPUT, text) from None


def _pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandFailed(ExitCode.INVALID_INPUT, f"{path}: {error.strerror}") from None
