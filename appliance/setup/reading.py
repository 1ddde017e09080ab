"""Reads certificates and keys, says what is wrong with them, and whether they fit together; changes nothing."""

import datetime
import ipaddress
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance import limits
from appliance.errors import InvalidArgument
from appliance.osutil import bounded
from appliance.setup.certificates import day

_BEGIN = b"-----BEGIN CERTIFICATE-----"


def refuse(what: str) -> NoReturn:
    """Raises the one error for what an operator gave."""
    raise InvalidArgument(what, reason="SETUP")


def read(path: Path) -> bytes:
    """A file's bytes. Raises InvalidArgument for one that can't be read or is no certificate's size."""
    try:
        return bounded.read(path, limits.certificate_file_bytes_max)
    except bounded.TooLarge:
        refuse(f"{path} is larger than any file of certificates")
    except OSError as error:
        refuse(f"cannot read {path}: {error.strerror}")


def certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    """All of a PEM file, at least one. Raises InvalidArgument."""
    try:
        found = x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion):
        found = []
    if found and data.count(_BEGIN) != len(found):
        refuse(f"{path} is cut off: {data.count(_BEGIN)} certificates begin in it, {len(found)} end")
    if not found:
        refuse(f"{path} holds no certificate in PEM (a text that begins with -----BEGIN CERTIFICATE-----)")
    for number, certificate in enumerate(found, 1):
        try:
            _parse(certificate)
        except Exception as error:  # each field has errors of its own, of the library's many kinds
            what = f"certificate {number} of {path} cannot be read ({type(error).__name__})"
            raise InvalidArgument(f"{what}: get the file again", reason="SETUP") from None
    return found


def private_key(data: bytes, path: Path) -> PrivateKeyTypes:
    """The key of a PEM file. Raises InvalidArgument, also for one with a passphrase."""
    try:
        return serialization.load_pem_private_key(data, None)
    except TypeError:
        refuse(
            f"{path} has a passphrase, which nobody can type when the service starts: take it away with "
            f"`openssl pkey -in {path} -out NEW.key`"
        )
    except (ValueError, UnsupportedAlgorithm):
        refuse(f"{path} holds no private key in PEM, or one of an unknown kind")


def fits(certificate: x509.Certificate, key: PrivateKeyTypes) -> bool:
    """Whether the certificate is over this key."""
    return _public(certificate.public_key()) == _public(key.public_key())


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` signed it, by name and by signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # a signature that is wrong, another name, a key of a kind that can't sign
        return False
    return True


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether it may sign others."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def serves(certificate: x509.Certificate) -> bool:
    """Whether it may be a server's: it doesn't say what it is for, or says this."""
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    wanted = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    return not wanted.isdisjoint(purposes)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Host names and addresses that it is for (its alternative names; the common name counts for nobody today)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(each.value) for each in found if isinstance(each, (x509.DNSName, x509.IPAddress)))


def covers(names: Iterable[str], wanted: str) -> bool:
    """Whether a client that connects to ``wanted`` accepts a certificate with these names; *.x is one label and x."""
    try:
        return str(ipaddress.ip_address(wanted)) in names
    except ValueError:
        pass
    wanted = wanted.lower().removesuffix(".")
    for name in map(str.lower, names):
        if name == wanted:
            return True
        if name.startswith("*.") and wanted.partition(".")[2] == name[2:]:
            return True
    return False


def check_times(certificate: x509.Certificate, path: Path, now: datetime.datetime) -> None:
    """Raises InvalidArgument when it is not valid now."""
    if why := not_valid(certificate, now):
        refuse(f"{path} {why}: get a new one, or set the clock if it is wrong")


def not_valid(certificate: x509.Certificate, now: datetime.datetime) -> str:
    """Why it is not valid at this time, as the end of a sentence; "" when it is."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        return f"expired on {day(ends)} (by this machine's clock it is {day(now)})"
    if now < begins:
        return f"is not valid before {day(begins)} (by this machine's clock it is {day(now)})"
    return ""


def chain_problem(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> str:
    """What is wrong with a server's file, as the end of a sentence: each is signed by the next, the last by an authority.

    Without ``authorities`` nobody knows who should have signed the last one.
    """
    for index, (certificate, issuer) in enumerate(itertools.pairwise(chain)):
        if not signed_by(certificate, issuer):
            return (
                f"has certificates out of order: number {index + 1} ({subject(certificate)}) is not signed by number "
                f"{index + 2} ({subject(issuer)}); put the server's own first, and behind each the one that signed it"
            )
    last = chain[-1]
    if authorities and last not in authorities and not any(signed_by(last, each) for each in authorities):
        return f"is not signed by {', '.join(map(subject, authorities[:3]))}, but by {issuer_of(last)}"
    return ""


def subject(certificate: x509.Certificate) -> str:
    """Whose it is, in one line."""
    return certificate.subject.rfc4514_string() or "without a name"


def issuer_of(certificate: x509.Certificate) -> str:
    """Who signed it, in one line."""
    return certificate.issuer.rfc4514_string() or "somebody without a name"


def _parse(certificate: x509.Certificate) -> None:
    """The library reads each part when it is asked for: all that is asked for later, now."""
    subject(certificate)
    issuer_of(certificate)
    is_authority(certificate)
    serves(certificate)
    names_of(certificate)
    _public(certificate.public_key())
    assert certificate.not_valid_before_utc <= certificate.not_valid_after_utc


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return]  # every kind of key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
