"""A simulated daemon, and running the command as if typed, in this process."""

import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from daemon_simulator import DaemonSimulator

from appliance.cli.main import run


class Done(NamedTuple):
    """What a command printed and its exit status."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A unix socket's path may have 107 bytes, which pytest's own folders can exceed."""
    folder = Path(tempfile.mkdtemp(prefix="cli"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def daemon(short_folder) -> Iterator[DaemonSimulator]:
    simulator = DaemonSimulator(short_folder / "a.sock")
    yield simulator
    simulator.stop()


@pytest.fixture
def cli(capsys, monkeypatch, tmp_path):
    """Runs ``appliance ARGUMENTS`` at a width of 80 columns, with ``stdin`` as its standard input."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("APPLIANCE_DEBUG", "1")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    monkeypatch.setattr("appliance.config_file.DEFAULT_PATH", tmp_path / "etc" / "appliance.toml")
    for name in ("APPLIANCE_SOCKET", "APPLIANCE_ADDRESS", "APPLIANCE_CONFIG"):
        monkeypatch.delenv(name, raising=False)

    def typed(*arguments: object, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = run([os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments])
        done = Done(code, *capsys.readouterr())
        assert "Traceback" not in done.err
        return done

    return typed


@pytest.fixture
def ask(cli, daemon):
    """The same, speaking to the simulated daemon."""
    return lambda *arguments, **more: cli(*arguments, "--socket", daemon.socket, **more)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> tuple[Path, Path, Path]:
    """An authority, and a certificate with its key for 127.0.0.1, as PEM files."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

    def certificate(name, key, issuer, issuer_key, authority):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    folder = tmp_path_factory.mktemp("tls")
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    pem = serialization.Encoding.PEM
    authority = certificate("test authority", authority_key, "test authority", authority_key, True)
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    ours = certificate("box", key, "test authority", authority_key, False)
    (folder / "cert.pem").write_bytes(ours.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "key.pem").chmod(0o600)
    return folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
