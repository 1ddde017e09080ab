"""TLS and mutual TLS over certificates that the test makes; new ones are taken up without dropping a call."""

import json
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import client_models
import grpc
import pytest
import tritonclient.grpc as triton
from certificates import Party, issue
from cryptography import x509
from daemon_process import APPLIANCE, DEADLINE, Daemon
from rpc_failures import fails
from triton_calls import SECONDS, a_pair, stub
from tritonclient.grpc import service_pb2

from appliance.pb.appliance.v1 import generation_pb2, generation_pb2_grpc


class Secured(NamedTuple):
    """A daemon with TLS; ``folder`` holds server.pem, server.key and ca.pem."""

    daemon: Daemon
    folder: Path
    authority: Party

    def channel(self, client: Party | None = None, authority: Party | None = None) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            (authority or self.authority).pem, client.key_pem if client else None, client.pem if client else None
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.secure_channel(self.daemon.address, credentials, options=options)

    def infer_by_cli(self, *options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*APPLIANCE, "infer", "pair", "-", "--json", "--address", self.daemon.address, *options],
            input='{"a": [[1, 2, 3], [4, 5, 6]], "b": [1]}',
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )


@pytest.fixture(scope="module")
def make_secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bool], Secured]]:
    """Starts daemons, with mutual TLS or without."""
    running: list[Daemon] = []

    def make(mutual: bool) -> Secured:
        folder = tmp_path_factory.mktemp("tls")
        authority = issue("authority")
        authority.write(folder, "ca")
        issue("first", authority).write(folder, "server")
        config = f'[server.tls]\ncertificate = "{folder}/server.pem"\nkey = "{folder}/server.key"\n'
        if mutual:
            config += f'client_ca = "{folder}/ca.pem"\n'
        (folder / "d").mkdir()
        daemon = Daemon(folder / "d", config=config)
        running.append(daemon)
        daemon.ready()
        daemon.add(client_models.pair(folder, "1.0.0", constant=0))
        daemon.add(client_models.fake(folder, "talk", kind="language", delay_ms=20))
        return Secured(daemon, folder, authority)

    yield make
    for daemon in running:
        daemon.stop()
        print("\n".join(daemon.log))


@pytest.fixture(scope="module")
def tls(make_secured: Callable[[bool], Secured]) -> Secured:
    return make_secured(False)


@pytest.fixture(scope="module")
def mutual(make_secured: Callable[[bool], Secured]) -> Secured:
    return make_secured(True)


def live(channel: grpc.Channel) -> bool:
    with channel:
        return bool(stub(channel).ServerLive(service_pb2.ServerLiveRequest(), timeout=SECONDS).live)


# --- who is let in ---------------------------------------------------------------------------------------------------


def test_tritonclient_over_tls(tls: Secured) -> None:
    with triton.InferenceServerClient(
        tls.daemon.address, ssl=True, root_certificates=str(tls.folder / "ca.pem")
    ) as client:
        assert client.infer("pair", a_pair(0.5)).as_numpy("out_b").tolist() == [7, -8]


def test_an_authority_that_did_not_sign_the_server(tls: Secured) -> None:
    with fails("UNAVAILABLE", "(?i)ssl|certificate|handshake"):
        live(tls.channel(authority=issue("stranger")))
    assert live(tls.channel())


def test_without_tls(tls: Secured) -> None:
    with fails("UNAVAILABLE"):
        live(grpc.insecure_channel(tls.daemon.address))
    assert live(tls.channel())


def test_mutual_tls(mutual: Secured) -> None:
    known = issue("client", mutual.authority)
    assert live(mutual.channel(known))
    with fails("UNAVAILABLE"):
        live(mutual.channel())
    with fails("UNAVAILABLE"):
        live(mutual.channel(issue("client", issue("authority"))))
    known.write(mutual.folder, "client")
    with triton.InferenceServerClient(
        mutual.daemon.address,
        ssl=True,
        root_certificates=str(mutual.folder / "ca.pem"),
        private_key=str(mutual.folder / "client.key"),
        certificate_chain=str(mutual.folder / "client.pem"),
    ) as client:
        assert client.is_model_ready("pair")


def test_the_command_line_over_tls(tls: Secured) -> None:
    done = tls.infer_by_cli("--tls-ca", str(tls.folder / "ca.pem"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    plain = tls.infer_by_cli()
    assert plain.returncode != 0
    assert "give --tls-ca" in plain.stderr


def test_the_command_line_over_mutual_tls(mutual: Secured) -> None:
    issue("operator", mutual.authority).write(mutual.folder, "operator")
    ca = ["--tls-ca", str(mutual.folder / "ca.pem")]
    own = ["--tls-cert", str(mutual.folder / "operator.pem"), "--tls-key", str(mutual.folder / "operator.key")]
    done = mutual.infer_by_cli(*ca, *own)
    assert done.returncode == 0, done.stderr
    nameless = mutual.infer_by_cli(*ca)
    assert nameless.returncode != 0
    assert "--tls-cert" in nameless.stderr


def test_status_over_tcp_says_where_it_is_answered(tls: Secured) -> None:
    """What operators may do is not offered to the network."""
    command = [*APPLIANCE, "status", "--address", tls.daemon.address, "--tls-ca", str(tls.folder / "ca.pem")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode != 0
    assert "unix socket" in done.stderr


# --- new certificates ------------------------------------------------------------------------------------------------


def served_name(address: str) -> str:
    """The name in the certificate that a new connection is shown."""
    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=SECONDS)
    (name,) = x509.load_pem_x509_certificate(pem.encode()).subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(name.value)


def serves(address: str, name: str) -> bool:
    return served_name(address) == name


class Callers:
    """Threads that call without a pause, each time over a new connection or always over one; what fails is kept."""

    def __init__(self, tls: Secured) -> None:
        self._tls = tls
        self._over = threading.Event()
        self.answered = [0, 0]
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(2)]

    def _run(self, number: int) -> None:
        kept = self._tls.channel()
        with kept:
            while not self._over.is_set():
                try:
                    channel = kept if number else self._tls.channel()
                    stub(channel).ServerLive(service_pb2.ServerLiveRequest(), timeout=SECONDS)
                    if not number:
                        channel.close()
                    self.answered[number] += 1
                except grpc.RpcError as error:
                    self.failures.append(str(error))

    def have_more_than(self, before: tuple[int, ...]) -> bool:
        """Whether each has had an answer since."""
        return all(now > then for now, then in zip(self.answered, before, strict=True))

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE)


def test_new_certificates_drop_nothing(tls: Secured) -> None:
    address, daemon = tls.daemon.address, tls.daemon
    assert served_name(address) == "first"
    words = " ".join(f"w{n}" for n in range(150))
    with tls.channel() as channel, Callers(tls) as callers:
        request = generation_pb2.GenerateRequest(model="talk", prompt=words)
        stream = generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=DEADLINE)
        said = next(stream).text
        for name in ("second", "third"):
            issue(name, tls.authority).write(tls.folder, "server")
            daemon.process.send_signal(signal.SIGHUP)
            daemon.eventually(partial(serves, address, name))
            daemon.eventually(partial(callers.have_more_than, tuple(callers.answered)))
        assert said + "".join(answer.text for answer in stream) == words
    assert callers.failures == []

    (tls.folder / "server.key").write_bytes(issue("other").key_pem)
    daemon.process.send_signal(signal.SIGHUP)
    daemon.eventually(lambda: any("the old ones stay in use" in line for line in daemon.log))
    assert served_name(address) == "third"
    assert live(tls.channel())


# --- what is refused at the start ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('[server]\naddress = "0.0.0.0:0"\n', ["server.address", "there is no TLS", "server.insecure = true"]),
        (
            '[server]\naddress = "127.0.0.1:0"\n[server.tls]\ncertificate = "/nope.pem"\nkey = "/nope.key"\n',
            ["server.tls.certificate", "cannot read /nope.pem"],
        ),
        (
            '[server]\naddress = "127.0.0.1:0"\n[server.tls]\ncertificate = "/nope.pem"\n',
            ["server.tls.certificate", "server.tls.key is not"],
        ),
    ],
    ids=["open to the network", "no such file", "half of it"],
)
def test_refused_at_the_start(short_path: Path, config: str, words: list[str]) -> None:
    daemon = Daemon(short_path, config=config)
    try:
        assert daemon.process.wait(DEADLINE) != 0
    finally:
        daemon.stop()
    for word in words:
        assert word in "\n".join(daemon.log)
    assert not daemon.socket.exists()


def test_open_to_the_network_when_written_out(short_path: Path) -> None:
    daemon = Daemon(short_path, config='[server]\naddress = "0.0.0.0:0"\ninsecure = true\n')
    try:
        port = daemon.ready().address.rpartition(":")[2]
        assert live(grpc.insecure_channel(f"127.0.0.1:{port}"))
    finally:
        assert daemon.stop() == 0
