"""A box after `appliance setup`: the real daemon serves whom it was set up for, doctor is content, renewals are served."""

import json
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import client_models
import grpc
import pytest
import tritonclient.grpc as triton
from cryptography import x509
from daemon_process import APPLIANCE, DEADLINE, Daemon
from rpc_failures import fails
from triton_calls import SECONDS, stub
from tritonclient.grpc import service_pb2


class Box(NamedTuple):
    """A daemon with the configuration in ``etc``, which `appliance setup` has made."""

    daemon: Daemon
    etc: Path

    def channel(self, client: Path | None) -> grpc.Channel:
        """With what lies in a client's folder; without one, only with what verifies the box."""
        files = [client / f"{client.name}.key", client / f"{client.name}.pem"] if client else []
        authority = (self.etc / "ca" / "ca.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(authority, *(file.read_bytes() for file in files))
        return grpc.secure_channel(self.daemon.address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])

    def served(self) -> int:
        """The serial number of the certificate that a new connection is shown."""
        host, _, port = self.daemon.address.rpartition(":")
        pem = ssl.get_server_certificate((host, int(port)), timeout=SECONDS)
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    def on_disk(self) -> int:
        return x509.load_pem_x509_certificate((self.etc / "tls" / "server.pem").read_bytes()).serial_number


def appliance(*arguments: str, status: int = 0) -> str:
    done = subprocess.run([*APPLIANCE, *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def box(short_path: Path) -> Iterator[Box]:
    etc = short_path / "etc"
    (etc / "conf.d").mkdir(parents=True)
    paths = f'[paths]\nstate = "{short_path}/state"\nruntime = "{short_path}/run"\n'
    (etc / "conf.d" / "10-test.toml").write_text(paths)
    flags = ["--address", "127.0.0.1:0", "--tls", "mutual", "--client", "operator", "--yes"]
    appliance("setup", "--config-dir", str(etc), *flags)
    daemon = Daemon(short_path, "--config", str(etc / "appliance.toml"))
    try:
        yield Box(daemon.ready(), etc)
    finally:
        daemon.stop()
        print("\n".join(daemon.log))


def live(channel: grpc.Channel) -> bool:
    with channel:
        return bool(stub(channel).ServerLive(service_pb2.ServerLiveRequest(), timeout=SECONDS).live)


def test_a_box_that_was_set_up(box: Box, tmp_path: Path) -> None:
    operator = box.etc / "clients" / "operator"
    assert live(box.channel(operator))
    with fails("UNAVAILABLE"):
        live(box.channel(None))

    # As the command has printed it for Python.
    with triton.InferenceServerClient(
        box.daemon.address,
        ssl=True,
        root_certificates=str(operator / "ca.pem"),
        private_key=str(operator / "operator.key"),
        certificate_chain=str(operator / "operator.pem"),
    ) as client:
        assert client.is_server_live()

    # One more client needs neither a restart nor a reload.
    appliance("setup", "client", "press-2", "--config-dir", str(box.etc), "--output", str(tmp_path / "press-2"))
    assert live(box.channel(tmp_path / "press-2"))
    box.daemon.add(client_models.pair(tmp_path, "1.0.0", constant=0))

    report = json.loads(appliance("doctor", "--config", str(box.etc / "appliance.toml"), "--json"))
    found = {check["found"] for check in report["checks"] if check["level"] == "ok"}
    assert any(text.startswith("server's certificate is good until") for text in found)
    assert f"the daemon answers at {box.daemon.socket}" in found


@pytest.mark.parametrize("new_key", [False, True])
def test_a_renewed_certificate_is_served_after_a_reload(box: Box, new_key: bool) -> None:
    before = box.served()
    assert before == box.on_disk()
    with box.channel(box.etc / "clients" / "operator") as kept:
        assert stub(kept).ServerLive(service_pb2.ServerLiveRequest(), timeout=SECONDS).live
        flags = ["--new-key"] if new_key else []
        appliance("setup", "renew", "--config-dir", str(box.etc), *flags)
        assert box.on_disk() != before
        assert box.served() == before
        box.daemon.process.send_signal(signal.SIGHUP)
        box.daemon.eventually(lambda: box.served() == box.on_disk())
        assert stub(kept).ServerLive(service_pb2.ServerLiveRequest(), timeout=SECONDS).live
    assert live(box.channel(box.etc / "clients" / "operator"))


def test_doctor_sees_what_was_spoilt(box: Box) -> None:
    key = box.etc / "tls" / "server.key"
    key.chmod(0o644)
    (box.etc / "ca" / "ca.key").chmod(0o644)
    report = json.loads(appliance("doctor", "--config", str(box.etc / "appliance.toml"), "--json", status=1))
    bad = [check["found"] for check in report["checks"] if check["level"] == "bad"]
    assert f"others may read or change {key}" in bad
    assert any(text.startswith(f"others may read {box.etc}/ca/ca.key") for text in bad)
    # The same command mends both.
    flags = ["--address", "127.0.0.1:0", "--yes"]
    done = json.loads(appliance("setup", "--config-dir", str(box.etc), *flags, "--json"))
    assert [step["step"] for step in done["steps"]] == ["SetAccess", "SetAccess"]
    appliance("doctor", "--config", str(box.etc / "appliance.toml"))
