"""TLS from files: server certificate and key, and for mutual TLS the authority that signs clients.

The files are proved before they are used (a key that belongs to another certificate, a file that isn't there), and a
reload that fails keeps what was in use. New connections get the new certificate, open ones stay.
"""

import contextlib
import logging
import ssl
import threading
import time
from pathlib import Path
from typing import NamedTuple

import grpc

from appliance import events, limits
from appliance.config import TlsConfig
from appliance.credentials import exposed
from appliance.serve import expiry
from appliance.serve.refused import ListenError

_log = logging.getLogger(__name__)


class _Material(NamedTuple):
    certificate: bytes
    key: bytes
    client_ca: bytes | None


def load(config: TlsConfig) -> _Material:
    """Reads and proves the files; raises ListenError that names the one that is wrong and what to do."""
    certificate = _read("server.tls.certificate", config.certificate)
    _check_private(config.key)
    key = _read("server.tls.key", config.key)
    client_ca = _read("server.tls.client_ca", config.client_ca) if config.client_ca else None
    _prove(config)
    return _Material(certificate, key, client_ca)


def _read(key: str, path: str) -> bytes:
    if not path:
        raise ListenError(f"{key} is not set: TLS needs both server.tls.certificate and server.tls.key")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ListenError(f"{key}: cannot read {path}: {error.strerror}") from None


def _check_private(path: str) -> None:
    """A key that others could read is no secret, and is not used."""
    with contextlib.suppress(OSError):  # what cannot be read is said when it is read
        if why := exposed(path):
            raise ListenError(f"server.tls.key: {why}")


def _prove(config: TlsConfig) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without the function, OpenSSL would ask for the password of an encrypted key on the terminal.
        context.load_cert_chain(config.certificate, config.key, password=lambda: "")
    except ssl.SSLError as error:
        raise ListenError(_explain(config, error)) from None
    except OSError as error:
        raise ListenError(f"server.tls: cannot read {config.certificate} or {config.key}: {error.strerror}") from None
    if config.client_ca:
        try:
            context.load_verify_locations(config.client_ca)
        except ssl.SSLError:
            raise ListenError(f"server.tls.client_ca: {config.client_ca} holds no certificate in PEM") from None


def _explain(config: TlsConfig, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"server.tls: the key {config.key} does not belong to the certificate {config.certificate}: "
            "give the key with which it was requested"
        )
    if "CERTIFICATE" not in Path(config.certificate).read_text(errors="replace"):
        return f"server.tls.certificate: {config.certificate} holds no certificate in PEM"
    if "PRIVATE KEY" not in Path(config.key).read_text(errors="replace"):
        return f"server.tls.key: {config.key} holds no private key in PEM"
    return (
        f"server.tls: {config.certificate} or {config.key} cannot be used ({error.reason or 'damaged'}): both must be "
        "PEM, the key without a password, the server's own certificate first in its file"
    )


class Tls:
    """The credentials of the TCP port, and how to exchange them while it is open."""

    def __init__(self, config: TlsConfig) -> None:
        """Raises ListenError."""
        self._lock = threading.Lock()
        first = load(config)
        self._fresh: _Material | None = None
        self._ends_s: float | None = None
        self._look_s = 0.0
        self._use(first)
        # gRPC asks at each handshake: a new configuration, or None to go on with the last.
        self.credentials = grpc.dynamic_ssl_server_credentials(
            _configuration(first),
            self._fetch,  # type: ignore[arg-type]  # may return None, as grpc documents it; its stubs don't say so
            require_client_authentication=bool(config.client_ca),
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        with self._lock:
            fresh, self._fresh = self._fresh, None
            if time.monotonic() >= self._look_s:
                self._look()
        return _configuration(fresh) if fresh is not None else None

    def reload(self, config: TlsConfig) -> str:
        """Takes the files as they are now for new connections; keeps the old ones when they are not good, and says why.

        They may have other names; what the port was opened with (mutual TLS or not) stays.
        """
        try:
            fresh = load(config)
        except ListenError as error:
            facts = events.CERTIFICATE_REFUSED.of()
            _log.error("certificates not reloaded, the old ones stay in use: %s", error, extra=facts)
            return str(error)
        with self._lock:
            self._fresh = fresh
            self._use(fresh)
        _log.info("certificates reloaded", extra=events.CERTIFICATE_RELOADED.of())
        return ""

    def _use(self, material: _Material) -> None:
        self._ends_s = expiry.not_after_s(material.certificate)
        self._look()

    def _look(self) -> None:
        """Handshakes come as long as anybody cares about the certificate."""
        self._look_s = time.monotonic() + limits.certificate_look_seconds
        if words := expiry.words(self._ends_s, time.time()):
            _log.warning("%s", words, extra=events.CERTIFICATE_EXPIRING.of())


def _configuration(material: _Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.client_ca
    )
