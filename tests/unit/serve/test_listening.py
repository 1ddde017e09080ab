"""Ports, unix sockets and TLS: what stops a front-end from listening, and certificates that change while it does."""

import queue
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from certificates import Party, issue
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from serve_rig import Rig

from appliance.config import ServerConfig, TlsConfig
from appliance.pb.inference import grpc_service_pb2 as pb
from appliance.pb.inference import grpc_service_pb2_grpc as pb_grpc
from appliance.serve import tls, unix_socket
from appliance.serve.refused import ListenError

PATIENCE = 20

# --- certificates ----------------------------------------------------------------------------------------------------


class Files(NamedTuple):
    folder: Path
    authority: Party

    def write(self, server: Party) -> None:
        (self.folder / "server.pem").write_bytes(server.pem)
        (self.folder / "server.key").write_bytes(server.key_pem)
        (self.folder / "server.key").chmod(0o600)

    def config(self, *, mutual: bool = False) -> TlsConfig:
        return TlsConfig(
            certificate=str(self.folder / "server.pem"),
            key=str(self.folder / "server.key"),
            client_ca=str(self.folder / "ca.pem") if mutual else "",
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    authority = issue("authority")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    made = Files(tmp_path, authority)
    made.write(issue("first", authority))
    return made


def channel(address: str, authority: Party, client: Party | None = None) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        authority.pem, client.key_pem if client else None, client.pem if client else None
    )
    return grpc.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])


def live(on: grpc.Channel) -> bool:
    return pb_grpc.GRPCInferenceServiceStub(on).ServerLive(pb.ServerLiveRequest(), timeout=PATIENCE).live


def served_certificate(address: str) -> str:
    """The common name that a new connection is shown."""
    import ssl

    host, _, port = address.rpartition(":")
    der = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port)), timeout=PATIENCE))
    names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value)


def secured(config: TlsConfig) -> Rig:
    return Rig(ServerConfig(address="127.0.0.1:0", tls=config), threads=16)


def test_tls(files: Files) -> None:
    with secured(files.config()) as rig:
        with channel(rig.address, files.authority) as good:
            assert live(good)
        with channel(rig.address, issue("stranger")) as bad, pytest.raises(grpc.RpcError):
            live(bad)
        with grpc.insecure_channel(rig.address) as plain, pytest.raises(grpc.RpcError):
            live(plain)
        assert live(rig.admin)


def test_mutual_tls(files: Files) -> None:
    with secured(files.config(mutual=True)) as rig:
        with channel(rig.address, files.authority, issue("client", files.authority)) as good:
            assert live(good)
        with channel(rig.address, files.authority) as nameless, pytest.raises(grpc.RpcError):
            live(nameless)
        other = issue("other authority")
        with channel(rig.address, files.authority, issue("client", other)) as foreign, pytest.raises(grpc.RpcError):
            live(foreign)


def test_reload_while_a_stream_runs(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    with secured(files.config()) as rig, channel(rig.address, files.authority) as open_channel:
        requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
        responses = pb_grpc.GRPCInferenceServiceStub(open_channel).ModelStreamInfer(
            iter(requests.get, None), timeout=PATIENCE
        )
        question = pb.ModelInferRequest(model_name="nope")
        requests.put(question)
        assert "unknown model" in next(responses).error_message
        assert served_certificate(rig.address) == "first"

        files.write(issue("second", files.authority))
        rig.servers.reload(files.config())
        assert served_certificate(rig.address) == "second"
        requests.put(question)
        assert "unknown model" in next(responses).error_message

        (files.folder / "server.key").write_bytes(issue("third").key_pem)
        rig.servers.reload(files.config())
        assert "the old ones stay in use" in caplog.text
        assert served_certificate(rig.address) == "second"
        requests.put(None)
        assert list(responses) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda f: (f.folder / "server.pem").unlink(),
            r"server.tls.certificate: cannot read .*server.pem: No such file",
        ),
        (lambda f: (f.folder / "server.key").unlink(), r"server.tls.key: cannot read"),
        (lambda f: (f.folder / "ca.pem").unlink(), r"server.tls.client_ca: cannot read"),
        (lambda f: (f.folder / "server.key").chmod(0o644), r"server.key: chmod o-rwx,g-w /"),
        (lambda f: (f.folder / "server.pem").write_text("x"), "server.pem holds no certificate in PEM"),
        (lambda f: (f.folder / "server.key").write_text("x"), "server.key holds no private key in PEM"),
        (lambda f: (f.folder / "ca.pem").write_text("x"), "ca.pem holds no certificate"),
        (lambda f: (f.folder / "server.key").write_bytes(issue("other").key_pem), "does not belong to the certificate"),
        (
            lambda f: (f.folder / "server.pem").write_text(
                "-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----"
            ),
            "cannot be used",
        ),
    ],
)
def test_bad_files(files: Files, spoil: object, words: str) -> None:
    spoil(files)  # type: ignore[operator]
    with pytest.raises(ListenError, match=words):
        tls.load(files.config(mutual=True))


def test_an_encrypted_key_asks_nobody_for_its_password(files: Files) -> None:
    party = issue("first", files.authority)
    encrypted = party.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    (files.folder / "server.pem").write_bytes(party.pem)
    (files.folder / "server.key").write_bytes(encrypted)
    with pytest.raises(ListenError, match="the key without a password"):
        tls.load(files.config())


@pytest.mark.parametrize(
    ("certificate", "key", "words"), [("x", "", "key is not set|cannot read"), ("", "x", "not set")]
)
def test_half_a_configuration(certificate: str, key: str, words: str) -> None:
    with pytest.raises(ListenError, match=words):
        tls.load(TlsConfig(certificate=certificate, key=key))


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_port_in_use(taken: int) -> None:
    rig = Rig(ServerConfig(address=f"127.0.0.1:{taken}", front_ends=1), threads=8)
    with pytest.raises(
        ListenError, match=f"cannot listen on 127.0.0.1:{taken}: Address already in use; free it, or set"
    ):
        rig.servers.listen_tcp()


def test_an_address_that_is_not_ours() -> None:
    rig = Rig(ServerConfig(address="192.0.2.1:0", front_ends=1), threads=8)
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        rig.servers.listen_tcp()


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    unix_socket.prepare(path)
    assert not path.exists()


def test_another_daemons_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ListenError, match="another daemon answers"):
            unix_socket.prepare(path)
    assert path.exists()


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ListenError, match="is no socket: move it"):
        unix_socket.prepare(path)
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match=r"has \d+ bytes, the kernel allows 107"):
        unix_socket.prepare(tmp_path / ("x" * 100))


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(ListenError, match="cannot be made"):
        unix_socket.prepare(tmp_path / "f" / "s")
