"""What is signed: lifetimes, names, purposes, and that a TLS library accepts it."""

import datetime
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID
from setup_world import DAY, NOW

from appliance import limits
from appliance.errors import FailedPrecondition
from appliance.setup import certificates, reading


@pytest.fixture(scope="module")
def authority():
    return certificates.make_authority("Inference Appliance CA of box", NOW)


def test_authority(authority):
    certificate = authority.certificate
    assert certificate.not_valid_after_utc == NOW + limits.setup_authority_days * DAY
    assert certificate.not_valid_before_utc < NOW
    assert reading.is_authority(certificate)
    assert reading.signed_by(certificate, certificate)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_server(authority):
    names = ("box.plant.example", "10.1.2.3", "::1", "localhost")
    made = certificates.issue_server(authority, names, NOW)
    assert reading.names_of(made.certificate) == names
    assert made.certificate.not_valid_after_utc == NOW + limits.setup_server_days * DAY
    assert reading.signed_by(made.certificate, authority.certificate)
    assert not reading.is_authority(made.certificate)
    assert reading.serves(made.certificate)
    again = certificates.issue_server(authority, names, NOW, made.key)
    assert reading.fits(again.certificate, made.key)
    assert again.certificate.serial_number != made.certificate.serial_number


def test_client(authority):
    made = certificates.issue_client(authority, "press-1", NOW)
    (purpose,) = made.certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert purpose == ExtendedKeyUsageOID.CLIENT_AUTH
    assert made.certificate.not_valid_after_utc == NOW + limits.setup_client_days * DAY
    assert reading.subject(made.certificate) == "CN=press-1"
    assert not reading.serves(made.certificate)
    data = certificates.as_pkcs12("press-1", made, [authority.certificate], b"secret")
    loaded = pkcs12.load_pkcs12(data, b"secret")
    assert loaded.cert is not None
    assert loaded.cert.certificate == made.certificate
    assert [each.certificate for each in loaded.additional_certs] == [authority.certificate]


def test_nothing_outlives_what_signed_it(authority):
    late = NOW + (limits.setup_authority_days - 10) * DAY
    made = certificates.issue_server(authority, ("box",), late)
    assert made.certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc
    with pytest.raises(FailedPrecondition, match=r"ended on 2037-02-26 .* it is 2037-02-27"):
        certificates.issue_client(authority, "late", late + 11 * DAY)


def test_a_clock_that_was_never_set(authority):
    with pytest.raises(FailedPrecondition, match=r"clock says 1970-01-01.*timedatectl") as caught:
        certificates.make_authority("x", datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc))
    assert caught.value.reason == "CLOCK"


def test_a_long_host_name_is_cut_where_nobody_looks(authority):
    name = ".".join(["plant" * 8] * 4)
    made = certificates.issue_server(authority, (name,), NOW)
    assert reading.names_of(made.certificate) == (name,)


def test_openssl_takes_both_sides(tmp_path):
    """A handshake of both sides, verified by OpenSSL as of today."""
    now = datetime.datetime.now(datetime.timezone.utc)
    authority = certificates.make_authority("CA", now)
    sides = {
        ssl.PROTOCOL_TLS_SERVER: certificates.issue_server(authority, ("box", "127.0.0.1"), now),
        ssl.PROTOCOL_TLS_CLIENT: certificates.issue_client(authority, "one", now),
    }
    contexts = []
    for protocol, signer in sides.items():
        file = tmp_path / f"{protocol}.pem"
        file.write_bytes(certificates.key_pem(signer.key) + certificates.certificate_pem(signer.certificate))
        context = ssl.SSLContext(protocol)
        context.load_cert_chain(file)
        context.load_verify_locations(cadata=certificates.certificate_pem(authority.certificate).decode())
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        contexts.append(context)
    ours, theirs = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        with contexts[0].wrap_socket(ours, server_side=True) as server:
            seen.append(server.getpeercert()["subject"])
            server.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with contexts[1].wrap_socket(theirs, server_hostname="box") as client:
        assert client.recv(5) == b"hello"
    thread.join(10)
    assert seen == [((("commonName", "one"),),)]
