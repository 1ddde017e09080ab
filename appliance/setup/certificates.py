"""Makes keys and certificates: the authority of this box, and what it signs for the server and for clients.

EC P-256 with SHA-256, which every TLS library knows; extensions by RFC 5280, section 4.2. Nothing here touches a file.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance import limits
from appliance.errors import FailedPrecondition

_REASON = "SETUP"


class Signer(NamedTuple):
    """A certificate with its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def make_authority(name: str, now: datetime.datetime, key: ec.EllipticCurvePrivateKey | None = None) -> Signer:
    """An authority that signs itself, over ``key`` or a new one; it may sign certificates, but no further authorities.

    Raises as ``check_clock``.
    """
    check_clock(now)
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = _builder(subject, subject, key, now, now + datetime.timedelta(days=limits.setup_authority_days))
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Signer(builder.sign(key, hashes.SHA256()), key)


def issue_server(
    authority: Signer, names: Sequence[str], now: datetime.datetime, key: ec.EllipticCurvePrivateKey | None = None
) -> Signer:
    """The server's certificate for host names and addresses, the first as its common name; over ``key``, or a new one.

    Raises FailedPrecondition when the authority has ended, or as ``check_clock``.
    """
    days = limits.setup_server_days
    return _issue(authority, names[0], names, ExtendedKeyUsageOID.SERVER_AUTH, days, now, key)


def issue_client(authority: Signer, name: str, now: datetime.datetime) -> Signer:
    """A client's certificate; its common name is what the box knows it by. Raises as ``issue_server``."""
    return _issue(authority, name, (), ExtendedKeyUsageOID.CLIENT_AUTH, limits.setup_client_days, now, None)


def check_clock(now: datetime.datetime) -> None:
    """Raises FailedPrecondition for a clock that was never set: what it dates would be wrong for years."""
    if now.timestamp() < limits.setup_clock_earliest_s:
        raise FailedPrecondition(
            f"this machine's clock says {day(now)}, which cannot be: set it (timedatectl set-time, or a time server), "
            "and begin again",
            reason="CLOCK",
        )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """As a file has it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """As a file has it: PKCS #8, without a passphrase, because nobody is there to type one at a start."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def as_pkcs12(name: str, signer: Signer, authorities: Sequence[x509.Certificate], passphrase: bytes) -> bytes:
    """Key, certificate and authorities in one file that browsers and key stores import."""
    encryption = serialization.BestAvailableEncryption(passphrase)
    return pkcs12.serialize_key_and_certificates(
        name.encode(), signer.key, signer.certificate, list(authorities), encryption
    )


def day(moment: datetime.datetime) -> str:
    """A date as messages have it."""
    return moment.strftime("%Y-%m-%d")


def general_name(text: str) -> x509.GeneralName:
    """A host's name or address as a certificate has it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _issue(
    authority: Signer,
    common_name: str,
    names: Sequence[str],
    purpose: x509.ObjectIdentifier,
    days: int,
    now: datetime.datetime,
    key: ec.EllipticCurvePrivateKey | None,
) -> Signer:
    check_clock(now)
    its_end = authority.certificate.not_valid_after_utc
    if its_end <= now:
        raise FailedPrecondition(
            f"the authority of this box ended on {day(its_end)} (by this machine's clock it is {day(now)}): move the "
            "folders ca, tls and clients away, set up again, and give clients their new files",
            reason=_REASON,
        )
    key = key or ec.generate_private_key(ec.SECP256R1())
    # Nothing is trusted for longer than what signed it.
    end = min(now + datetime.timedelta(days=days), its_end)
    builder = _builder(_subject(common_name), authority.certificate.subject, key, now, end)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([general_name(each) for each in names]), critical=False
        )
    return Signer(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=limits.setup_backdate_hours))
        .not_valid_after(end)
    )


def _subject(name: str) -> x509.Name:
    """A long host name is cut here: what counts is the alternative names."""
    text = name[: limits.certificate_common_name_chars_max]
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
