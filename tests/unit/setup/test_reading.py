"""Certificates and keys that are damaged: each is refused in one way, and whatever is taken can be asked everything."""

import random
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from setup_world import NOW

from appliance.errors import InvalidArgument
from appliance.setup import certificates, reading

FILE = Path("x.pem")


@pytest.fixture(scope="module")
def signer():
    authority = certificates.make_authority("CA", NOW)
    return certificates.issue_server(authority, ("box", "*.example", "10.1.2.3", "::1"), NOW)


def pem(der: bytes, label: str) -> bytes:
    import base64

    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()


def spoilt(der: bytes, rounds: int):
    """Each time a few other bytes changed, left out or doubled; the same on every run."""
    dice = random.Random(7)  # no secret
    for _ in range(rounds):
        data = bytearray(der)
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data))
            data[at : at + dice.randint(0, 1)] = bytes(dice.randrange(256) for _ in range(dice.randint(0, 2)))
        yield bytes(data)


@pytest.mark.filterwarnings("ignore")
def test_spoilt_certificates(signer):
    der = signer.certificate.public_bytes(serialization.Encoding.DER)
    outcomes = {"taken": 0, "holds no certificate in PEM": 0, "cannot be read": 0}
    for data in spoilt(der, 3000):
        try:
            (found,) = reading.certificates(pem(data, "CERTIFICATE"), FILE)
        except InvalidArgument as error:
            outcomes[next(words for words in outcomes if words in error.message)] += 1
            continue
        outcomes["taken"] += 1
        names = reading.names_of(found)
        assert isinstance(reading.covers(names, "box"), bool)
        reading.not_valid(found, NOW)
        assert not reading.signed_by(found, signer.certificate)
        assert reading.fits(found, signer.key) in (True, False)
    assert min(outcomes.values()) > 10, outcomes


def test_spoilt_keys(signer):
    der = signer.key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    refused = 0
    for data in spoilt(der, 1000):
        try:
            reading.private_key(pem(data, "PRIVATE KEY"), FILE)
        except InvalidArgument:
            refused += 1
    assert refused > 100


def test_several_in_one_file(signer):
    data = certificates.certificate_pem(signer.certificate)
    assert len(reading.certificates(b"a comment\n" + data + b"another\n" + data, FILE)) == 2
    with pytest.raises(InvalidArgument, match=r"x.pem is cut off: 2 certificates begin in it, 1 end"):
        reading.certificates(data + data[:200], FILE)


def test_a_certificate_without_extensions(signer):
    name = x509.Name([])
    plain = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(signer.key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
        .sign(signer.key, certificates.hashes.SHA256())
    )
    (found,) = reading.certificates(certificates.certificate_pem(plain), FILE)
    assert (reading.names_of(found), reading.is_authority(found), reading.serves(found)) == ((), False, True)
    assert (reading.subject(found), reading.issuer_of(found)) == ("without a name", "somebody without a name")
